package linux

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestACallThatASignalInterruptsIsMadeAgain(t *testing.T) {
	calls := 0
	interrupted := func() error {
		if calls++; calls < 3 {
			return os.NewSyscallError("flock", unix.EINTR)
		}
		return unix.EBADF
	}
	if err := Retry(interrupted); err != unix.EBADF || calls != 3 {
		t.Errorf("Retry: %v after %d calls", err, calls)
	}
	calls = 0
	n, err := RetryValue(func() (int, error) {
		err := interrupted()
		return calls, err
	})
	if n != 3 || err != unix.EBADF {
		t.Errorf("RetryValue: %d, %v", n, err)
	}
	calls = 0
	r, errno := Syscall(func() (uintptr, uintptr, unix.Errno) {
		if calls++; calls < 3 {
			return 0, 0, unix.EINTR
		}
		return 7, 0, 0
	})
	if r != 7 || errno != 0 || calls != 3 {
		t.Errorf("Syscall: %d, %v after %d calls", r, errno, calls)
	}
}

func TestBeneathADirectoryNothingLeadsOut(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Symlink("file", filepath.Join(dir, "link")), os.Mkdir(filepath.Join(dir, "sub"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		dir, path string
		want      error
	}{
		{dir, "file", nil}, {dir, "sub/../file", nil},
		{dir, "link", unix.ELOOP}, {dir, "../" + filepath.Base(dir), unix.EXDEV}, {dir, "/", unix.EXDEV},
		{"/", "proc/version", unix.EXDEV}, // a mount
	} {
		at, err := os.Open(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(int(at.Fd()), c.path, unix.O_PATH, Beneath)
		if !errors.Is(err, c.want) {
			t.Errorf("%s in %s: %v, want %v", c.path, c.dir, err, c.want)
		}
		if err == nil && f.Close() != nil || at.Close() != nil {
			t.Error("it was not open")
		}
	}
}

func TestStatxLooksAtAnOpenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS)
	if err != nil || st.Size != 4 {
		t.Errorf("size %d, %v", st.Size, err)
	}
}

func TestALockIsHeldByOneOpenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var files []*os.File
	for range 2 {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	if err := Flock(files[0], unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := Flock(files[1], unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("the second one: %v", err)
	}
}

func TestAliveTellsOfAProcessThatHasEnded(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := Alive(fd); err != nil {
		t.Errorf("it lives: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if err := Alive(fd); err != unix.ESRCH {
		t.Errorf("it has ended: %v", err)
	}
}
