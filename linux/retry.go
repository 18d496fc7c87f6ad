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
