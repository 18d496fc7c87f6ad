package directory

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/testenv"
)

// ownersDir is a directory of an ordinary user's.
func ownersDir(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := testenv.OpenDir(t)
	if err := os.Chown(dir, int(owner.UID), int(owner.GID)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ownersDirectory is a checkpoint of theirs that is being written.
func ownersPartial(t *testing.T, path string) *partial {
	t.Helper()
	d, err := newPartial(path, "m1", owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Discard)
	for _, l := range d.lanes {
		if _, err := io.WriteString(l, "the job's"); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// exchange renames a file of the owner's, with the owner's rights, over one in a directory.
func exchange(over string) error {
	return osthread.As(owner, func() error {
		mine := filepath.Join(filepath.Dir(filepath.Dir(over)), "mine")
		return errors.Join(os.WriteFile(mine, []byte("not hers!"), 0o600), os.Rename(mine, over))
	})
}

func ownerOfPath(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func inodeOfPath(t *testing.T, path string) inode {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return inodeOf(st)
}

func TestADirectoryIsRootsWhileItIsWrittenAndItsUsersAfterwards(t *testing.T) {
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	d := ownersPartial(t, path)
	d.Shut()
	temp := filepath.Join(home, d.temp())
	if err := exchange(filepath.Join(temp, "lane-0")); !errors.Is(err, unix.EACCES) {
		t.Errorf("its user gets in while it is written: %v", err)
	}
	if uid := ownerOfPath(t, temp); uid != 0 {
		t.Errorf("it belongs to user %d", uid)
	}
	id := testenv.NewAuthority(t).Node(t, "here")
	if err := d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, id.Sign); err != nil {
		t.Fatal(err)
	}
	d.Discard()
	for _, name := range append(testenv.Names(t, path), ".") {
		if uid := ownerOfPath(t, filepath.Join(path, name)); uid != int(owner.UID) {
			t.Errorf("%s belongs to user %d", name, uid)
		}
	}
	s := openSealed(t, path, owner, id.Verify)
	if got, err := io.ReadAll(s.Reader(0)); err != nil || string(got) != "the job's" {
		t.Errorf("it holds %q, %v", got, err)
	}
}

// Where root is nobody, as with NFS, its user gets in.
func TestADirectoryThatCannotBeShutIsNotSealedOverWhatItsUserPutThere(t *testing.T) {
	home := ownersDir(t)
	d := ownersPartial(t, filepath.Join(home, "saved"))
	if err := exchange(filepath.Join(home, d.temp(), "lane-0")); err != nil {
		t.Fatal(err)
	}
	signed := false
	err := d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, func(data []byte) (sig, cert []byte, err error) {
		signed = true
		if strings.Contains(string(data), "not hers") {
			t.Error("what the user put there is signed")
		}
		return nil, nil, nil
	})
	if !signed || !errors.Is(err, image.ErrExtra) {
		t.Errorf("got %v", err)
	}
	d.Discard()
	if got := testenv.Names(t, home); len(got) > 0 {
		t.Errorf("left are %v", got)
	}
}

func TestAnAgentThatComesToOpensADirectoryThatItsPredecessorShut(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		home := ownersDir(t)
		path := filepath.Join(home, "saved")
		d := ownersPartial(t, path)
		d.Shut()
		if sealed {
			if err := d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, testenv.NewAuthority(t).Node(t, "here").Sign); err != nil {
				t.Fatal(err)
			}
		}
		ref, err := d.Ref()
		if err != nil {
			t.Fatal(err)
		}
		d.whole = true // nobody discards it: its agent was killed
		d.close()
		for range 2 {
			if err := (Store{}).Remove(ref, "m1", owner); err != nil {
				t.Error(err)
			}
		}
		if got := testenv.Names(t, home); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
	}
}

// What has the name of a checkpoint that was given up, and is something else, is left as it
// is: a user may name what is root's so, if only it lies in a directory of the user's.
func TestAnotherDirectoryOfTheSameNameStaysRoots(t *testing.T) {
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	d := ownersPartial(t, path)
	d.Shut()
	id := d.id
	d.whole = true
	d.close()
	temp := filepath.Join(home, d.temp())
	secret := filepath.Join(home, "roots")
	if err := errors.Join(os.Mkdir(secret, 0o700), os.WriteFile(filepath.Join(secret, "lane-0"), nil, 0o600), os.WriteFile(filepath.Join(secret, "file"), []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	err := osthread.As(owner, func() error { return errors.Join(os.Rename(temp, temp+".away"), os.Rename(secret, temp)) })
	if err != nil {
		t.Fatal(err)
	}
	for number, id := range map[string]inode{"its own": id, "that of the one that is gone": inodeOfPath(t, temp)} {
		err := (&partial{path: path, owner: owner, move: "m1", id: id}).Remove()
		if uid, got := ownerOfPath(t, temp), testenv.Names(t, temp); uid != 0 || len(got) != 2 {
			t.Errorf("root's directory, with %s inode, belongs to user %d and holds %v (%v)", number, uid, got, err)
		}
	}
}

func TestADirectoryWithFilesOfRootsIsRead(t *testing.T) {
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	d := ownersPartial(t, path)
	id := testenv.NewAuthority(t).Node(t, "here")
	if err := d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, id.Sign); err != nil {
		t.Fatal(err)
	}
	d.Discard()
	for _, name := range testenv.Names(t, path) {
		if err := os.Chown(filepath.Join(path, name), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	s := openSealed(t, path, owner, id.Verify)
	if got, err := io.ReadAll(s.Reader(0)); err != nil || string(got) != "the job's" {
		t.Errorf("it holds %q, %v", got, err)
	}
}
