package osthread

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNobodyElseGetsTheThread(t *testing.T) {
	for range 50 {
		err := Throwaway(func() error {
			if unix.Gettid() == os.Getpid() {
				return errors.New("it is the process's first thread")
			}
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			return unix.Chdir("/proc")
		})
		if err != nil {
			t.Fatal(err)
		}
		if dir, err := os.Getwd(); err != nil || dir == "/proc" {
			t.Fatalf("we are in %s, %v", dir, err)
		}
	}
}

func TestTheErrorComesBack(t *testing.T) {
	want := errors.New("no")
	if err := Throwaway(func() error { return want }); !errors.Is(err, want) {
		t.Fatal(err)
	}
}
