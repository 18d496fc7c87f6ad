package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var errFault = errors.New("injected fault")

// faulty fails the named step of a write and lets all others reach the disk.
type faulty struct {
	file
	step string
}

func (f faulty) Write(p []byte) (int, error) {
	if f.step == "write" {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, errFault
	}
	return f.file.Write(p)
}

func (f faulty) Chmod(mode fs.FileMode) error { return f.fail("chmod", f.file.Chmod(mode)) }
func (f faulty) Sync() error                  { return f.fail("sync", f.file.Sync()) }
func (f faulty) Close() error                 { return f.fail("close", f.file.Close()) }

func (f faulty) fail(step string, err error) error {
	if f.step == step {
		return errFault
	}
	return err
}

func failAt(step string) system {
	sys := kernel()
	real := sys
	sys.create = func(dir, pattern string) (file, error) {
		if step == "create" {
			return nil, errFault
		}
		f, err := real.create(dir, pattern)
		return faulty{f, step}, err
	}
	sys.open = func(path string, flag int, perm fs.FileMode) (file, error) {
		f, err := real.open(path, flag, perm)
		return faulty{f, step}, err
	}
	sys.rename = func(from, to string) error {
		if step == "rename" {
			return errFault
		}
		return real.rename(from, to)
	}
	sys.syncDir = func(dir string) error {
		if step == "syncdir" {
			return errFault
		}
		return real.syncDir(dir)
	}
	return sys
}

func TestWriteFileFailingAtAnyStepReportsItAndNeverMixesOldAndNew(t *testing.T) {
	for _, c := range []struct{ step, want string }{
		{"create", "old"}, {"write", "old"}, {"chmod", "old"}, {"sync", "old"},
		{"close", "old"}, {"rename", "old"}, {"syncdir", "new"},
	} {
		t.Run(c.step, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if err := WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := writeFile(failAt(c.step), path, []byte("new"), 0o600); !errors.Is(err, errFault) {
				t.Fatalf("error is %v, want the injected one", err)
			}
			wantContent(t, path, c.want)
			wantNames(t, dir, 1)
		})
	}
}

func TestAppendLineFailingAtAnyStepReportsIt(t *testing.T) {
	for _, step := range []string{"write", "sync", "close", "syncdir"} {
		path := filepath.Join(t.TempDir(), "f")
		if err := appendLine(failAt(step), path, []byte("line"), 0o600); !errors.Is(err, errFault) {
			t.Errorf("%s: error is %v, want the injected one", step, err)
		}
	}
}

func TestWriteFileSetsThePermissionsAskedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o666 {
		t.Errorf("mode is %o, want 666", got)
	}
}

func TestAppendLineAddsLinesInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, line := range []string{"a", "", "c"} {
		if err := AppendLine(path, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantContent(t, path, "a\n\nc\n")
}

func TestAppendLineRefusesALineWithANewline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := AppendLine(path, []byte("a\nb"), 0o600); err == nil {
		t.Fatal("no error")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file was made: %v", err)
	}
}

func TestAppendLineKeepsTheCallersBufferUntouched(t *testing.T) {
	buf := []byte("line|rest")
	path := filepath.Join(t.TempDir(), "f")
	if err := AppendLine(path, buf[:4], 0o600); err != nil {
		t.Fatal(err)
	}
	if string(buf) != "line|rest" {
		t.Errorf("buffer became %q", buf)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("content is %q, want %q", got, want)
	}
}

func wantNames(t *testing.T, dir string, want int) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != want {
		t.Errorf("directory holds %d names, want %d: %v", len(names), want, names)
	}
}
