package safepath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

const stranger = 12345

// shared is a directory as /tmp is, with another user in it.
func shared(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := filepath.Join(t.TempDir(), "shared")
	must(t, os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|fs.ModeSticky))
	return dir
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestADirectoryIsRootsAllTheWay(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(dir string) error // dir is shared
		at   string
		is   string // "" = safe, else what the error is about
		also string
	}{
		"nothing there":               {func(string) error { return nil }, "x", "", ""},
		"nothing above":               {func(string) error { return nil }, "x/y/z", "", ""},
		"root's":                      {func(d string) error { return os.Mkdir(d+"/x", 0o755) }, "x", "", ""},
		"root's, through root's link": {func(d string) error { return errors.Join(os.Mkdir(d+"/y", 0o755), os.Symlink("y", d+"/x")) }, "x", "", ""},
		"root's, through links and ..": {func(d string) error {
			return errors.Join(os.MkdirAll(d+"/y/z", 0o755), os.Symlink(d+"/y/z/../../y", d+"/x"))
		}, "x/z", "", ""},
		"a user's who was first": {func(d string) error { return errors.Join(os.Mkdir(d+"/x", 0o700), os.Chown(d+"/x", stranger, 0)) }, "x", "x", "rm -r "},
		"in a user's":            {func(d string) error { return errors.Join(os.MkdirAll(d+"/x/y", 0o755), os.Chown(d+"/x", stranger, 0)) }, "x/y", "x", ""},
		"in a user's, deeper": {func(d string) error {
			return errors.Join(os.MkdirAll(d+"/x/y", 0o755), os.Chown(d+"/x/y", stranger, 0))
		}, "x/y/z", "x/y", ""},
		"a user's link to root's": {func(d string) error {
			return errors.Join(os.Mkdir(d+"/y", 0o755), os.Symlink("y", d+"/x"), os.Lchown(d+"/x", stranger, 0))
		}, "x", "x", "rm -r "},
		"a user's link to nothing": {func(d string) error { return errors.Join(os.Symlink("none", d+"/x"), os.Lchown(d+"/x", stranger, 0)) }, "x", "x", ""},
		"root's link into a user's": {func(d string) error {
			return errors.Join(os.MkdirAll(d+"/y/z", 0o755), os.Chown(d+"/y", stranger, 0), os.Symlink("y/z", d+"/x"))
		}, "x", "y", ""},
		"open to a group": {func(d string) error { return errors.Join(os.Mkdir(d+"/x", 0o755), os.Chmod(d+"/x", 0o770)) }, "x", "x", "chmod go-w "},
		"open to all, sticky": {func(d string) error {
			return errors.Join(os.Mkdir(d+"/x", 0o755), os.Chmod(d+"/x", 0o777|fs.ModeSticky))
		}, "x", "x", ""},
		"in one that is open to all": {func(d string) error { return errors.Join(os.MkdirAll(d+"/x/y", 0o755), os.Chmod(d+"/x", 0o777)) }, "x/y", "x", "chmod go-w "},
		"in a user's sticky one": {func(d string) error {
			return errors.Join(os.MkdirAll(d+"/x/y", 0o755), os.Chmod(d+"/x", 0o777|fs.ModeSticky), os.Chown(d+"/x", stranger, 0))
		}, "x/y", "x", ""},
		"a file":            {func(d string) error { return os.WriteFile(d+"/x", nil, 0o600) }, "x", "not a directory", ""},
		"links in a circle": {func(d string) error { return os.Symlink("x", d+"/x") }, "x", "too many levels", ""},
		"below a group's in root's place": {func(d string) error {
			return errors.Join(os.Mkdir(d+"/x", 0o755), os.Chown(d+"/x", 0, stranger), os.Chmod(d+"/x", 0o775))
		}, "x/y", "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shared(t)
			must(t, c.lie(dir))
			err := Dir(filepath.Join(dir, c.at), 0o711)
			if c.is == "" {
				if err != nil {
					t.Fatal(err)
				}
				st, err := os.Stat(filepath.Join(dir, c.at))
				if err != nil || st.Mode() != fs.ModeDir|0o711 {
					t.Errorf("made %v, %v", st.Mode(), err)
				}
				if err := Check(filepath.Join(dir, c.at)); err != nil {
					t.Error(err)
				}
				return
			}
			var e *Error
			if errors.As(err, &e) && (e.Path != filepath.Join(dir, c.is) || !strings.HasPrefix(e.Remedy, c.also)) || e == nil && (err == nil || !strings.Contains(err.Error(), c.is)) {
				t.Errorf("got %v (%+v), want %s", err, e, c.is)
			}
			if st, err := os.Stat(filepath.Join(dir, c.at)); err == nil && st.Mode().Perm() == 0o711 {
				t.Error("it was touched")
			}
		})
	}
}

func TestASocketIsRootsWhoeverMayConnect(t *testing.T) {
	dir := shared(t)
	if err := Check(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	must(t, unix.Mknod(dir+"/sock", unix.S_IFSOCK|0o666, 0), os.Chmod(dir+"/sock", 0o666))
	if err := Check(dir + "/sock"); err != nil {
		t.Error(err)
	}
	must(t, os.Chown(dir+"/sock", stranger, 0))
	if err := Check(dir + "/sock"); err == nil {
		t.Error("a user's socket passes")
	}
	if err := Check("relative"); err == nil {
		t.Error("a relative path passes")
	}
}
