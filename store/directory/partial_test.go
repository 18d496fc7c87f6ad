package directory

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/testenv"
)

// An ordinary user, and root.
var (
	owner    = osthread.User{UID: 1000, GID: 1000}
	operator = osthread.User{}
)

// withText is a directory whose lanes hold some text.
func withText(t *testing.T, path string) *Sealed {
	t.Helper()
	id := testenv.NewAuthority(t).Node(t, "here")
	d, err := newPartial(path, "m1", operator)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	for i, lane := range d.lanes {
		if _, err := io.WriteString(lane, strings.Repeat("lane", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, id.Sign); err != nil {
		t.Fatal(err)
	}
	if d.Written() == 0 {
		t.Error("nothing was counted")
	}
	return openSealed(t, path, operator, id.Verify)
}

// openSealed opens a sealed directory as a restore does.
func openSealed(t *testing.T, path string, u osthread.User, verify store.Verifier) *Sealed {
	t.Helper()
	dir, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	s, err := Open(dir, func(do func() error) error { return osthread.As(u, do) }, verify)
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
	s := withText(t, path)
	if got := testenv.Names(t, dir); len(got) != 1 || got[0] != "saved" {
		t.Errorf("the parent holds %v", got)
	}
	l, err := store.ReadAhead(s.Manifest.Files, s.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range l.Readers {
		if got, err := io.ReadAll(r); err != nil || string(got) != strings.Repeat("lane", i+1) {
			t.Errorf("lane %d holds %q (%v)", i, got, err)
		}
	}
	l.Wait()
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
		if _, err := newPartial(path, "m1", operator); err == nil || !strings.Contains(err.Error(), "exists already") {
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
	for name, give := range map[string]func(*partial) error{
		"discard": func(d *partial) error { d.Discard(); return nil },
		"remove":  (*partial).Remove,
		"both":    func(d *partial) error { d.Discard(); return errors.Join(d.Remove(), d.Remove()) },
		"seal": func(d *partial) error { // the signature cannot be made
			err := d.Seal(store.Manifest{}, func([]byte) (sig, cert []byte, err error) { return nil, nil, errors.New("no key") })
			d.Discard()
			if err == nil {
				return errors.New("sealed without a key")
			}
			return nil
		},
	} {
		dir := t.TempDir()
		d, err := newPartial(filepath.Join(dir, "saved"), "m1", operator)
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
	withText(t, path) // it discards at its end
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
	if d, err := newPartial(filepath.Join(parent, "saved"), "m1", owner); err == nil {
		t.Errorf("made where the caller may not: %v", d.Remove())
	}
	if err := os.Chown(parent, int(owner.UID), int(owner.GID)); err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{false, true} {
		d, err := newPartial(filepath.Join(parent, "saved"), "m1", owner)
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			if err := d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, testenv.NewAuthority(t).Node(t, "here").Sign); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
	}
	if got := testenv.Names(t, parent); len(got) > 0 {
		t.Errorf("left are %v", got)
	}
}

func TestALaneThatChangedAfterItWasOpenedIsFoundOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "saved")
	s := withText(t, path)
	name := s.Manifest.Files[0].Name
	if err := os.WriteFile(filepath.Join(path, name), []byte("LANE"), 0o600); err != nil { // same length
		t.Fatal(err)
	}
	l, err := store.ReadAhead(s.Manifest.Files, s.Reader)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Wait()
	if got, err := io.ReadAll(l.Readers[0]); !errors.Is(err, store.ErrDigest) || !strings.Contains(err.Error(), name) || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestADirectoryWithOtherThanLanesIsNotRead(t *testing.T) {
	s := withText(t, filepath.Join(t.TempDir(), "saved"))
	other := append(s.Manifest.Files, store.File{Name: "other"})
	if _, err := store.ReadAhead(other, s.Reader); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("got %v", err)
	}
}

func TestWhatTheUserPutInTheWayMeanwhileIsNotRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "saved")
	d, err := newPartial(path, "m1", operator)
	if err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(path, "precious")
	if err := errors.Join(os.Mkdir(path, 0o700), os.WriteFile(precious, []byte("data"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, testenv.NewAuthority(t).Node(t, "here").Sign); err == nil {
		t.Error("it was sealed over what is there")
	}
	if err := d.Remove(); err != nil {
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
	if err := errors.Join(os.Mkdir(parent, 0o755), os.Chown(parent, int(owner.UID), int(owner.GID))); err != nil {
		t.Fatal(err)
	}
	d, err := newPartial(filepath.Join(parent, "saved"), "m1", owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(parent, parent+".away"), os.Symlink(root, parent)); err != nil {
		t.Fatal(err)
	}
	if err := d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, testenv.NewAuthority(t).Node(t, "here").Sign); err == nil {
		t.Error("it was sealed elsewhere")
	}
	_ = d.Remove() // what it cannot find it cannot remove
	d.Discard()
	if got := testenv.Names(t, victim); len(got) != 1 {
		t.Errorf("root's directory holds %v", got)
	}
	if got := testenv.Names(t, root); len(got) != 1 {
		t.Errorf("beside root's directory lie %v", got)
	}
}
