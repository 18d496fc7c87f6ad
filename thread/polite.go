package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Politely runs fn on a thread that others on the node come before, as far as it needs
// processors: at the lowest priority (nice 19). Where that may not be changed fn runs at
// the usual one. What fn starts in other goroutines is not included.
func Politely(fn func()) {
	runtime.LockOSThread()
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err == nil {
		err = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	}
	fn()
	if err == nil && unix.Setpriority(unix.PRIO_PROCESS, 0, 20-raw) != nil {
		return // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
}
