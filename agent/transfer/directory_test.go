package transfer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/testenv"
)

// sealed is a directory whose lanes hold some text.
func sealed(t *testing.T, path string) *store.Sealed {
	t.Helper()
	id := testenv.NewAuthority(t).Node(t, "here")
	d, err := newDirectory(path, "m1", nodetest.Operator)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	for i, lane := range d.lanes {
		if _, err := io.WriteString(lane, strings.Repeat("lane", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, id.Sign); err != nil {
		t.Fatal(err)
	}
	if d.written() == 0 {
		t.Error("nothing was counted")
	}
	return openSealed(t, path, nodetest.Operator, id.Verify)
}

// openSealed opens a sealed directory as a restore does.
func openSealed(t *testing.T, path string, c caller.Caller, verify store.Verifier) *store.Sealed {
	t.Helper()
	dir, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	s, err := store.Open(dir, func(do func() error) error { return caller.As(c, do) }, verify)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestADirectoryGetsItsNameWhenItIsWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "saved")
	s := sealed(t, path)
	if got := testenv.Names(t, dir); len(got) != 1 || got[0] != "saved" {
		t.Errorf("the parent holds %v", got)
	}
	l, err := readAhead(s)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range l.readers {
		if got, err := io.ReadAll(r); err != nil || string(got) != strings.Repeat("lane", i+1) {
			t.Errorf("lane %d holds %q (%v)", i, got, err)
		}
	}
	l.wait()
}

func TestADirectoryThatExistsIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "saved")
	for name, make := range map[string]func() error{
		"directory":        func() error { return os.Mkdir(path, 0o700) },
		"file":             func() error { return os.WriteFile(path, nil, 0o600) },
		"dangling symlink": func() error { return os.Symlink("/no/such/thing", path) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if _, err := newDirectory(path, "m1", nodetest.Operator); err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("%s: %v", name, err)
		}
		if got := testenv.Names(t, dir); len(got) != 1 {
			t.Errorf("%s: the parent holds %v", name, got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADirectoryThatWasGivenUpLeavesNothing(t *testing.T) {
	for name, give := range map[string]func(*directory) error{
		"discard": func(d *directory) error { d.Discard(); return nil },
		"remove":  (*directory).remove,
		"both":    func(d *directory) error { d.Discard(); return errors.Join(d.remove(), d.remove()) },
		"seal": func(d *directory) error { // the signature cannot be made
			err := d.seal(store.Manifest{}, func([]byte) (sig, cert []byte, err error) { return nil, nil, errors.New("no key") })
			d.Discard()
			if err == nil {
				return errors.New("sealed without a key")
			}
			return nil
		},
	} {
		dir := t.TempDir()
		d, err := newDirectory(filepath.Join(dir, "saved"), "m1", nodetest.Operator)
		if err != nil {
			t.Fatal(err)
		}
		if err := give(d); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := testenv.Names(t, dir); len(got) > 0 {
			t.Errorf("%s: the parent holds %v", name, got)
		}
	}
}

func TestADiscardAfterTheSealKeepsTheDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "saved")
	sealed(t, path) // it discards at its end
	if got := testenv.Names(t, path); len(got) < 3 {
		t.Errorf("left are %v", got)
	}
}

func TestADirectoryIsMadeWithTheCallersRight(t *testing.T) {
	testenv.NeedRoot(t)
	parent := testenv.OpenDir(t)
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	if d, err := newDirectory(filepath.Join(parent, "saved"), "m1", nodetest.Owner); err == nil {
		t.Errorf("made where the caller may not: %v", d.remove())
	}
	if err := os.Chown(parent, int(nodetest.Owner.UID), int(nodetest.Owner.GID)); err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{false, true} {
		d, err := newDirectory(filepath.Join(parent, "saved"), "m1", nodetest.Owner)
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, testenv.NewAuthority(t).Node(t, "here").Sign); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.remove(); err != nil {
			t.Error(err)
		}
	}
	if got := testenv.Names(t, parent); len(got) > 0 {
		t.Errorf("left are %v", got)
	}
}

func TestALaneThatChangedAfterItWasOpenedIsFoundOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "saved")
	s := sealed(t, path)
	name := s.Manifest.Files[0].Name
	if err := os.WriteFile(filepath.Join(path, name), []byte("LANE"), 0o600); err != nil { // same length
		t.Fatal(err)
	}
	l, err := readAhead(s)
	if err != nil {
		t.Fatal(err)
	}
	defer l.wait()
	if got, err := io.ReadAll(l.readers[0]); !errors.Is(err, store.ErrDigest) || !strings.Contains(err.Error(), name) || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestADirectoryWithOtherThanLanesIsNotRead(t *testing.T) {
	s := sealed(t, filepath.Join(t.TempDir(), "saved"))
	other := &store.Sealed{Manifest: store.Manifest{Files: append(s.Manifest.Files, store.File{Name: "other"})}}
	if _, err := readAhead(other); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("got %v", err)
	}
}

func TestWhatTheUserPutInTheWayMeanwhileIsNotRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "saved")
	d, err := newDirectory(path, "m1", nodetest.Operator)
	if err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(path, "precious")
	if err := errors.Join(os.Mkdir(path, 0o700), os.WriteFile(precious, []byte("data"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, testenv.NewAuthority(t).Node(t, "here").Sign); err == nil {
		t.Error("it was sealed over what is there")
	}
	if err := d.remove(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(precious); err != nil || string(data) != "data" {
		t.Errorf("the user's own: %q %v", data, err)
	}
	if got := testenv.Names(t, dir); len(got) != 1 {
		t.Errorf("the parent holds %v", got)
	}
}

func TestAParentThatWasExchangedMeanwhileLeadsNowhereWithRootsRights(t *testing.T) {
	testenv.NeedRoot(t)
	home, root := testenv.OpenDir(t), testenv.OpenDir(t)
	victim := filepath.Join(root, "saved")
	if err := errors.Join(os.Chmod(root, 0o755), os.Mkdir(victim, 0o700), os.WriteFile(filepath.Join(victim, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	parent := filepath.Join(home, "parent")
	if err := errors.Join(os.Mkdir(parent, 0o755), os.Chown(parent, int(nodetest.Owner.UID), int(nodetest.Owner.GID))); err != nil {
		t.Fatal(err)
	}
	d, err := newDirectory(filepath.Join(parent, "saved"), "m1", nodetest.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(parent, parent+".away"), os.Symlink(root, parent)); err != nil {
		t.Fatal(err)
	}
	if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, testenv.NewAuthority(t).Node(t, "here").Sign); err == nil {
		t.Error("it was sealed elsewhere")
	}
	_ = d.remove() // what it cannot find it cannot remove
	d.Discard()
	if got := testenv.Names(t, victim); len(got) != 1 {
		t.Errorf("root's directory holds %v", got)
	}
	if got := testenv.Names(t, root); len(got) != 1 {
		t.Errorf("beside root's directory lie %v", got)
	}
}
