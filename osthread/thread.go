package osthread

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Throwaway runs fn on such a thread and returns its error.
//
// The process's first thread is never used: Go parks it instead of ending it, and
// what the kernel says of the process (/proc/PID/ns, /proc/PID/root) it says of
// that one. If fn falls to it, it is kept busy while another is found.
func Throwaway(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			done <- Throwaway(fn)
			return
		}
		done <- fn()
	}()
	return <-done
}
