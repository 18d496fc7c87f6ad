package linux

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Retry calls fn again for as long as a signal interrupts it (EINTR).
func Retry(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// RetryValue is Retry for a call that returns something.
func RetryValue[T any](fn func() (T, error)) (T, error) {
	for {
		if v, err := fn(); !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

// Syscall is Retry for a call that the unix package has no function for: fn returns what
// [unix.Syscall] does.
func Syscall(fn func() (r1, r2 uintptr, errno unix.Errno)) (uintptr, unix.Errno) {
	for {
		if r, _, errno := fn(); errno != unix.EINTR {
			return r, errno
		}
	}
}
