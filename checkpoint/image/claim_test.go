package image

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestOfManyNodesThatBringAJobBackOneSucceeds(t *testing.T) {
	dir := t.TempDir()
	var won atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			switch err := Stake(dir, Claim{Node: "n", Epoch: 7}); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, ErrClaimed):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d nodes succeeded", won.Load())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("left behind: %v, %v", entries, err)
	}
}

func TestTheNewestClaimCounts(t *testing.T) {
	dir := t.TempDir()
	if _, found, err := Claims(dir); found || err != nil {
		t.Fatal(found, err)
	}
	for _, e := range []int64{3, 11, 9} {
		if err := Stake(dir, Claim{Node: "n", Epoch: e}); err != nil {
			t.Fatal(err)
		}
	}
	if c, found, err := Claims(dir); err != nil || !found || c.Epoch != 11 {
		t.Fatal(c, found, err)
	}
	if err := errors.Join(Unstake(dir, 11), Unstake(dir, 11)); err != nil {
		t.Fatal(err)
	}
	if c, _, err := Claims(dir); err != nil || c.Epoch != 9 {
		t.Fatal(c, err)
	}
}

func TestAClaimThatCannotBeReadIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "restored-1.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Claims(dir); err == nil {
		t.Fatal("no error")
	}
}
