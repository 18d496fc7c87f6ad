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
	// faultLock is locked, shared, by each restore that needs the switch on. There is one file a
	// machine, as there is one switch. It holds a mark while migrate has the switch on.
	faultLock = "/run/migrate-userfaultfd.lock"
	faultMark = "1"
)

// openFaultAccess opens userfaultfd(2) to tasks in user namespaces while CRIU needs it: in a lazy
// restore of such a job, its tasks make the descriptors themselves. The kernel lets only root
// outside do that unless this switch is on, and asks only when a descriptor is made. done puts the
// switch back once no other restore on the machine needs it.
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

// CloseFaultAccess puts the switch back if migrate turned it on and no restore needs it any more. An
// agent calls it at its start, too: an earlier one may have been killed in between.
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
