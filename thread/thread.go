// Package thread runs code on an operating system thread of its own that ends with
// it. Namespaces, file system identity and the like belong to threads, and a
// thread that has changed them cannot be given back: the next goroutine on it
// would find itself somewhere else.
package thread

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
