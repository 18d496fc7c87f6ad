package directory

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/store"
)

// stakeAtOnce has twenty nodes bring a job back at a time, and returns how many may.
func stakeAtOnce(t *testing.T, dir string, epoch func(node int) int64) int32 {
	t.Helper()
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			switch err := placeClaim(at(t, dir), store.Claim{Node: "n", Epoch: epoch(i)}, 6); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, store.ErrClaimed):
				t.Error(err)
			}
		})
	}
	all.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != int(won.Load()) {
		t.Fatalf("%d succeeded, and left behind are %v, %v", won.Load(), entries, err)
	}
	return won.Load()
}

func TestOfManyNodesThatBringAJobBackOneSucceeds(t *testing.T) {
	if won := stakeAtOnce(t, t.TempDir(), func(int) int64 { return 7 }); won != 1 {
		t.Fatalf("%d nodes succeeded", won)
	}
}

// Nodes that have seen other moves of the job come with other epochs.
func TestOfManyNodesWithEpochsOfTheirOwnNoTwoBringAJobBack(t *testing.T) {
	for range 20 {
		if won := stakeAtOnce(t, t.TempDir(), func(node int) int64 { return 7 + int64(node%5) }); won > 1 {
			t.Fatalf("%d nodes succeeded", won)
		}
	}
}

func TestWhoLooksBeforeANewerClaimIsThereIsTheOneThatCounts(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		epoch int64
		want  error
	}{{7, nil}, {9, store.ErrClaimed}, {6, store.ErrClaimed}, {7, store.ErrClaimed}} {
		if err := placeClaim(at(t, dir), store.Claim{Node: "n", Epoch: c.epoch}, 5); !errors.Is(err, c.want) {
			t.Errorf("epoch %d: %v, want %v", c.epoch, err, c.want)
		}
	}
	if err := placeClaim(at(t, dir), store.Claim{Node: "n", Epoch: 9}, 7); err != nil {
		t.Errorf("who has seen it before may go on: %v", err)
	}
}

func TestClaimsAreInTheOrderOfTheirEpochs(t *testing.T) {
	dir := t.TempDir()
	if claims, err := claimsIn(at(t, dir)); len(claims) != 0 || err != nil {
		t.Fatal(claims, err)
	}
	for _, e := range []int64{3, 9, 11} {
		if err := placeClaim(at(t, dir), store.Claim{Node: "n", Epoch: e}, e-1); err != nil {
			t.Fatal(err)
		}
	}
	newest := func() int64 {
		t.Helper()
		claims, err := claimsIn(at(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		return claims[len(claims)-1].Epoch
	}
	if e := newest(); e != 11 {
		t.Fatal(e)
	}
	if err := errors.Join(releaseClaim(at(t, dir), 11), releaseClaim(at(t, dir), 11)); err != nil {
		t.Fatal(err)
	}
	if e := newest(); e != 9 {
		t.Fatal(e)
	}
}

func TestAClaimThatCannotBeReadIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "restored-1.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := claimsIn(at(t, dir)); err == nil {
		t.Fatal("no error")
	}
	if err := placeClaim(at(t, dir), store.Claim{Epoch: 2}, 1); err == nil {
		t.Fatal("no error of the stake")
	}
}

// Who owns the directory may put anything under the name of a claim.
func TestAClaimThatIsNoFileHoldsNobodyUp(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"FIFO":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"device":    func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		dir := t.TempDir()
		if err := put(filepath.Join(dir, "restored-7.json")); err != nil {
			t.Fatal(err)
		}
		if _, err := claimsIn(at(t, dir)); !errors.Is(err, image.ErrExtra) || strings.Contains(err.Error(), "root") {
			t.Errorf("%s: %v", name, err)
		}
		if err := placeClaim(at(t, dir), store.Claim{Epoch: 7}, 6); !errors.Is(err, store.ErrClaimed) {
			t.Errorf("%s: %v", name, err)
		}
		if left := names(t, dir); len(left) != 1 {
			t.Errorf("%s: left are %v", name, left)
		}
	}
}

func TestAClaimLiesInTheDirectoryThatWasOpened(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, "saved")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	opened := at(t, dir)
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := placeClaim(opened, store.Claim{Epoch: 7}, 0); err != nil {
		t.Fatal(err)
	}
	if here, there := names(t, dir), names(t, dir+".away"); len(here) != 0 || len(there) != 1 {
		t.Errorf("%v, and where it was opened %v", here, there)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := namesIn(at(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return list
}
