package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const faultSysctl = "/proc/sys/vm/unprivileged_userfaultfd"

// faultAccess opens userfaultfd(2) to tasks in user namespaces for as long as
// CRIU needs it there: while it restores such a job lazily, its tasks make the
// descriptors themselves, and the kernel lets only root outside do that unless
// this switch is on. It is asked when a descriptor is made and never again.
type faultAccess struct {
	marker string // exists while the switch is on because of us

	mu    sync.Mutex
	users int
}

func newFaultAccess(runDir string) *faultAccess {
	return &faultAccess{marker: filepath.Join(runDir, "userfaultfd-open")}
}

// open turns the switch on, unless the node has it on always.
func (f *faultAccess) open() (done func() error, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users == 0 {
		if err := f.turnOn(); err != nil {
			return nil, err
		}
	}
	f.users++
	return f.release, nil
}

func (f *faultAccess) turnOn() error {
	now, err := os.ReadFile(faultSysctl)
	if err != nil {
		return fmt.Errorf("user namespaces and userfaultfd: %w", err)
	}
	if strings.TrimSpace(string(now)) == "1" {
		return nil
	}
	if err := os.WriteFile(f.marker, nil, 0o600); err != nil {
		return err
	}
	return os.WriteFile(faultSysctl, []byte("1"), 0)
}

func (f *faultAccess) release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users--
	if f.users > 0 {
		return nil
	}
	return f.turnOff()
}

// turnOff puts the switch back if we turned it on. An agent calls it at its start
// too, for one that was killed in between.
func (f *faultAccess) turnOff() error {
	if _, err := os.Stat(f.marker); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(faultSysctl, []byte("0"), 0); err != nil {
		return fmt.Errorf("close userfaultfd to user namespaces again: %w", err)
	}
	return os.Remove(f.marker)
}
