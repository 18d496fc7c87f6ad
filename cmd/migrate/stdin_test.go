package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/testenv"
)

// piped is a pipe with these bytes in it, and its other end.
func piped(t *testing.T, text string) (in, out *os.File) {
	t.Helper()
	in, out, err := os.Pipe()
	if err == nil {
		_, err = out.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	return in, out
}

// opened is a file with this text, read up to a byte.
func opened(t *testing.T, text string, at int64) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		_, err = f.Seek(at, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestStdinIsAFileOrRefusedWhereItHasData(t *testing.T) {
	whole, deleted, renamed := opened(t, "input", 0), opened(t, "input", 0), opened(t, "input", 0)
	null, err := os.Open("/dev/null")
	err = errors.Join(err, os.Remove(deleted.Name()), os.Rename(renamed.Name(), renamed.Name()+"2"), os.WriteFile(renamed.Name(), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	quiet, _ := piped(t, "")
	full, _ := piped(t, "input")
	over, end := piped(t, "")
	closed, _ := piped(t, "")
	_, _ = end.Close(), closed.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket, other := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "other")
	defer other.Close()
	defer socket.Close()
	if _, err := other.WriteString("input"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		in    *os.File
		path  string
		words string // of the error
	}{
		"a file":                      {whole, whole.Name(), ""},
		"a file at its end":           {opened(t, "input", 5), "", ""},
		"an empty file":               {opened(t, "", 0), "", ""},
		"a file that is read already": {opened(t, "input", 2), "", "begun to read"},
		"a deleted file":              {deleted, "", "without a name"},
		"a renamed file":              {renamed, renamed.Name() + "2", ""},
		"a pipe with data":            {full, "", "5 bytes"},
		"a pipe without":              {quiet, "", ""},
		"a pipe at its end":           {over, "", ""},
		"a socket with data":          {socket, "", "5 bytes"},
		"nothing":                     {null, "", ""},
		"closed":                      {closed, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path, err := inputFile(c.in)
			if path != c.path || (err == nil) != (c.words == "") {
				t.Fatalf("%q, %v", path, err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), "< /dev/null")) {
				t.Error(err)
			}
		})
	}
}

func TestRunTakesTheFileThatIsItsStdin(t *testing.T) {
	a := newFakeAgent(t)
	for _, detach := range []bool{false, true} {
		c, _, errs := newCLI(a)
		in := opened(t, "input", 0)
		c.in = in
		args := []string{"--socket", a.socket, "run", "--", "true"}
		if detach {
			args = []string{"--socket", a.socket, "run", "-d", "--", "true"}
		}
		a.exit(0, 0)
		if code := c.execute(t.Context(), args); code != 0 {
			t.Fatalf("detached %v: exit %d, %s", detach, code, errs)
		}
		if has := strings.Contains(string(a.request), in.Name()); has == detach {
			t.Errorf("detached %v: the request is %s", detach, a.request)
		}
	}
	c, _, errs := newCLI(a)
	c.in = opened(t, "script", 3)
	if code := c.execute(t.Context(), []string{"--socket", a.socket, "run", "--", "true"}); code != 0 || !strings.Contains(errs.String(), "begun to read") || strings.Contains(string(a.request), "stdin") {
		t.Errorf("a shell's script: exit %d, %s, %s", code, errs, a.request)
	}
	c, _, errs = newCLI(a)
	c.in, _ = piped(t, "input")
	if code := c.execute(t.Context(), []string{"--socket", a.socket, "run", "--", "true"}); code != api.ExitUsage || !strings.Contains(errs.String(), "-i FILE") {
		t.Errorf("a pipe: exit %d, %s", code, errs)
	}
}

func TestInputThatComesLaterIsNoticedOnce(t *testing.T) {
	in, out := piped(t, "")
	came := make(chan struct{})
	stop := watchInput(in, func() { close(came) })
	if _, err := out.WriteString("late"); err != nil {
		t.Fatal(err)
	}
	testenv.InTime(t, func() { <-came })
	stop()
	for name, in := range map[string]*os.File{"its end": closedPipe(t), "nothing yet": func() *os.File { in, _ := piped(t, ""); return in }()} {
		testenv.InTime(t, watchInput(in, func() { t.Errorf("%s was taken for input", name) }))
	}
}

func closedPipe(t *testing.T) *os.File {
	in, out := piped(t, "")
	_ = out.Close()
	return in
}
