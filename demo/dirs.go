package demo

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// dirs are the two directories that hold everything of the demo.
type dirs struct{ durable, volatile string }

// newDirs makes them. The volatile one is in memory, as /run is on most machines.
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

// remove unmounts what is still mounted in the directories, and removes them.
func (d dirs) remove() error {
	var errs []error
	for _, dir := range d.list() {
		for _, m := range mountsBeneath(dir) {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
			}
		}
		if len(mountsBeneath(dir)) == 0 { // else RemoveAll would delete files of the mounted tree
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// mountsBeneath lists mount points at or below dir, the last mounted first.
func mountsBeneath(dir string) []string {
	table, err := procfs.MountTable(os.Getpid())
	if err != nil {
		return nil
	}
	var points []string
	for _, m := range table {
		if m.Target == dir || strings.HasPrefix(m.Target, dir+"/") {
			points = append(points, m.Target)
		}
	}
	slices.Reverse(points)
	return points
}
