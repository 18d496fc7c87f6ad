package target

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

const (
	faultSysctl = "/proc/sys/vm/unprivileged_userfaultfd"
	// faultLock is held, shared, by everyone who needs the switch on. It is one file
	// per machine, because the switch is, and holds a mark while the switch is on
	// because of us.
	faultLock = "/run/migrate-userfaultfd.lock"
	faultMark = "1"
)

// openFaultAccess opens userfaultfd(2) to tasks in user namespaces for as long as
// CRIU needs it there: while it restores such a job lazily, its tasks make the
// descriptors themselves, and the kernel lets only root outside do that unless
// this switch is on. It is asked when a descriptor is made and never again. done
// puts it back when nobody else on the machine needs it.
func openFaultAccess() (done func() error, err error) {
	f, err := lockFaults(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	now, err := os.ReadFile(faultSysctl)
	if err == nil && strings.TrimSpace(string(now)) != "1" {
		if _, err = f.WriteAt([]byte(faultMark), 0); err == nil {
			//house:allow os.WriteFile: a file of the kernel
			err = os.WriteFile(faultSysctl, []byte("1"), 0)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open userfaultfd to user namespaces: %w", err), f.Close())
	}
	return func() error {
		// Closing alone leaves the lock with a child that is just being forked.
		return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close(), CloseFaultAccess())
	}, nil
}

// CloseFaultAccess puts the switch back if we turned it on and nobody needs it
// any more. An agent calls it at its start too, for one that was killed in
// between.
func CloseFaultAccess() error {
	f, err := lockFaults(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	mark := make([]byte, len(faultMark))
	if n, _ := f.ReadAt(mark, 0); n == 0 {
		return nil
	}
	//house:allow os.WriteFile: a file of the kernel
	if err := os.WriteFile(faultSysctl, []byte("0"), 0); err != nil {
		return fmt.Errorf("close userfaultfd to user namespaces again: %w", err)
	}
	return f.Truncate(0)
}

func lockFaults(how int) (*os.File, error) {
	f, err := os.OpenFile(faultLock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := linux.Flock(f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
