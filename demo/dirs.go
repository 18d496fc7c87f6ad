package demo

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dirs are the two directories that hold everything of the demo.
type dirs struct{ durable, volatile string }

// newDirs makes them. What is volatile goes to memory, as /run is on most
// machines.
func newDirs() (d dirs, err error) {
	pattern := fmt.Sprintf("migrate-demo-%d-*", os.Getpid())
	if d.durable, err = os.MkdirTemp("", pattern); err != nil {
		return d, err
	}
	if d.volatile, err = os.MkdirTemp("/dev/shm", pattern); err != nil {
		return d, errors.Join(err, d.remove())
	}
	return d, nil
}

func (d dirs) list() []string {
	var l []string
	for _, dir := range []string{d.durable, d.volatile} {
		if dir != "" {
			l = append(l, dir)
		}
	}
	return l
}

// remove takes the directories away, and what is still mounted in them first.
func (d dirs) remove() error {
	var errs []error
	for _, dir := range d.list() {
		for _, m := range mountsBeneath(dir) {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
			}
		}
		if len(mountsBeneath(dir)) == 0 { // never into what is mounted there
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}
