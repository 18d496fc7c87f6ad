package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Polite is the nice level of what gives way to jobs. Beside a thread of a job that
// never sleeps it gets 4 % of their processor.
const Polite = 14

// Politely runs fn on a thread that others on the node come before, as far as it needs
// processors, and with a clock of that thread. One that others come before already stays so. Where that may not be changed fn runs at
// the usual one. What fn starts in other goroutines is not included.
func Politely(fn func(*Clock)) {
	Timed(func(clock *Clock) {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, 0, max(Polite, 20-raw))
		}
		fn(clock)
		if err == nil && unix.Setpriority(unix.PRIO_PROCESS, 0, 20-raw) != nil {
			runtime.LockOSThread() // once more than it is unlocked: the thread ends with its goroutine
		}
	})
}

// Timed runs fn on one thread, with a clock of that thread.
func Timed(fn func(*Clock)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	clock := NewClock()
	defer clock.Close() // only read
	fn(clock)
}
