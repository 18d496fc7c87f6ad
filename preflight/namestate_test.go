package preflight

import (
	"os"
	"path/filepath"
	"testing"
)

func TestALinkThatHasComeIntoTheNameOfAFileIsNotFollowed(t *testing.T) {
	dir, closed := t.TempDir(), t.TempDir()
	for _, d := range []string{dir + "/a", closed} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "f"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := openFiles{pid: os.Getpid(), init: os.Getpid()}
	name := dir + "/a/f"
	is, err := statx(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := file{inode: is, Link: name}
	if got := nameStateFrom(h.init, f); got != nameHolds {
		t.Errorf("the name of the file itself: %v", got)
	}
	// From now on the name leads to what only root may know of: is it there or not?
	if err := os.Rename(dir+"/a", dir+"/b"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(closed, dir+"/a"); err != nil {
		t.Fatal(err)
	}
	with := nameStateFrom(h.init, f)
	if err := os.Remove(filepath.Join(closed, "f")); err != nil {
		t.Fatal(err)
	}
	if without := nameStateFrom(h.init, f); with != without || with != nameGone {
		t.Errorf("with a file behind the link %v, without %v", with, without)
	}
}
