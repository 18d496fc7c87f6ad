package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const scratchPattern = "migrate-vm-"

// scratch makes a directory that is locked for as long as this process lives, and
// removes those of processes that were killed before they could.
func scratch() (string, *os.File, error) {
	parent := filepath.Join("/var/tmp") // /tmp may be memory, and the disks lie here
	left, err := filepath.Glob(filepath.Join(parent, scratchPattern+"*"))
	if err != nil {
		return "", nil, err
	}
	for _, dir := range left {
		if err := removeUnlocked(dir); err != nil {
			return "", nil, err
		}
	}
	dir, err := os.MkdirTemp(parent, scratchPattern)
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return "", nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return dir, f, nil
}

func removeUnlocked(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return nil // another run removes it, or it is not readable
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // in use
	}
	return os.RemoveAll(dir)
}
