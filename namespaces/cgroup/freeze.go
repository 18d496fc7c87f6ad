package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Freeze freezes every task of the cgroup and returns when the kernel reports that all are frozen.
// Freezing twice changes nothing.
func (c *Cgroup) Freeze(ctx context.Context) error {
	return c.setFrozen(ctx, true)
}

// Thaw ends our freeze. The tasks run again unless the job is suspended above
// ([Cgroup.Suspended]). A cgroup that does not exist is no error.
func (c *Cgroup) Thaw(ctx context.Context) error {
	if _, err := os.Stat(c.FreezerDir()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := c.setFrozen(ctx, false); !gone(err) {
		return err
	}
	return nil
}

// gone recognises the errors of a cgroup that does not exist any more. Its open files vanish with
// it.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

func (c *Cgroup) setFrozen(ctx context.Context, frozen bool) error {
	for {
		// A version 1 freezer can get stuck half way when a task forks at the
		// wrong moment; writing again helps.
		if err := c.writeFreezer(frozen); err != nil {
			return err
		}
		done, err := c.hasReached(frozen)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup %s did not reach frozen=%v: %w", c.FreezerDir(), frozen, context.Cause(ctx))
		case <-time.After(200 * time.Microsecond):
		}
	}
}

func (c *Cgroup) hasReached(frozen bool) (bool, error) {
	now, err := c.Frozen()
	if err != nil || now == frozen {
		return err == nil, err
	}
	if frozen {
		return false, nil
	}
	by, err := c.Suspended()
	return by != "", err
}

func (c *Cgroup) writeFreezer(frozen bool) error {
	file, value := freezerFile(c.isUnified(), frozen)
	//house:allow os.WriteFile: a file of the kernel
	if err := os.WriteFile(filepath.Join(c.FreezerDir(), file), []byte(value), 0); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// freezerFile is the file that freezes a cgroup or thaws it, and what to write to it.
func freezerFile(unified, frozen bool) (file, value string) {
	switch {
	case unified && frozen:
		return "cgroup.freeze", "1"
	case unified:
		return "cgroup.freeze", "0"
	case frozen:
		return "freezer.state", "FROZEN"
	}
	return "freezer.state", "THAWED"
}

// ThawCommand is the shell command that thaws the cgroup with the directory dir.
func ThawCommand(dir string) string {
	_, err := os.Stat(filepath.Join(dir, "cgroup.freeze"))
	file, value := freezerFile(err == nil, false)
	return fmt.Sprintf("echo %s > %s", value, filepath.Join(dir, file))
}

// Frozen asks the kernel whether every task of the cgroup is frozen, by this cgroup or one above.
func (c *Cgroup) Frozen() (bool, error) {
	if !c.isUnified() {
		data, err := os.ReadFile(filepath.Join(c.FreezerDir(), "freezer.state"))
		return strings.TrimSpace(string(data)) == "FROZEN", err
	}
	data, err := os.ReadFile(filepath.Join(c.FreezerDir(), "cgroup.events"))
	return strings.Contains(string(data), "frozen 1"), err
}

// SelfFreezing asks the kernel whether the directory that only migrate freezes is frozen, or about
// to be. It is false for a cgroup that does not exist.
func (c *Cgroup) SelfFreezing() (bool, error) { return freezing(c.FreezerDir(), c.isUnified()) }

// Suspended names the nearest frozen cgroup above the tasks, "" for none. A scheduler or an
// operator has frozen it.
func (c *Cgroup) Suspended() (dir string, err error) { return c.frozenFrom(c.FreezerDir()) }

// SuspendedAbove is the same above the job's own cgroup, where other processes may be frozen with
// it.
func (c *Cgroup) SuspendedAbove() (dir string, err error) { return c.frozenFrom(c.Dir()) }

func (c *Cgroup) frozenFrom(below string) (dir string, err error) {
	for dir = filepath.Dir(below); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			break // above the hierarchy, or the part of it that we see, in which we are ourselves
		}
		frozen, err := freezing(dir, c.isUnified())
		if err != nil || frozen {
			return dir, err
		}
	}
	return "", nil
}

// FrozenTasksWake tells whether a frozen task wakes up for SIGKILL and for ptrace(2). A version 1
// freezer holds it all the same.
func (c *Cgroup) FrozenTasksWake() bool { return c.isUnified() }

// ThawThread takes one thread out of a version 1 freezer until it stands elsewhere, and puts it back.
// It waits for that as long as the context lasts. The thread is back in any case, unless an error
// says where it is.
func (c *Cgroup) ThawThread(ctx context.Context, tid int, stands func() bool) error {
	if err := enterThread(filepath.Dir(c.FreezerDir()), tid); err != nil {
		return err
	}
	err := poll(ctx, stands)
	return errors.Join(err, enterThread(c.FreezerDir(), tid))
}

func poll(ctx context.Context, until func() bool) error {
	for !until() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Microsecond):
		}
	}
	return nil
}

// enterThread moves one thread in the version 1 freezer's hierarchy. One that has ended is no error.
func enterThread(dir string, tid int) error {
	//house:allow os.WriteFile: a file of the kernel
	err := os.WriteFile(filepath.Join(dir, "tasks"), []byte(strconv.Itoa(tid)), 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("move thread %d to %s: %w", tid, dir, err)
	}
	return nil
}

// Gather puts back threads that an agent had taken out of a version 1 freezer when it ended. They
// are in the job's own cgroup, where no others are.
func (c *Cgroup) Gather() error {
	if c.isUnified() || c.Dir() == c.FreezerDir() {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(c.Dir(), "tasks"))
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range strings.Fields(string(data)) {
		tid, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		if err := enterThread(c.FreezerDir(), tid); err != nil {
			return err
		}
	}
	return nil
}

// freezing tells whether a cgroup itself is frozen, or about to be. The state of its ancestors
// does not count. The root of a hierarchy cannot be frozen.
func freezing(dir string, unified bool) (bool, error) {
	file := "freezer.self_freezing"
	if unified {
		file = "cgroup.freeze"
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	if gone(err) {
		return false, nil
	}
	return strings.TrimSpace(string(data)) == "1", err
}

// Kill ends every task of the cgroup, frozen or not, and returns when the cgroup is empty. A
// frozen task does not run again. The caller must reap: a zombie leaves the cgroup when its parent
// has reaped it. On version 1 the tasks of a suspended job end when the suspension ends, and Kill
// waits for that.
func (c *Cgroup) Kill(ctx context.Context) error {
	for {
		pids, err := c.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		all, err := killAll(pids, c.Pids)
		if err != nil {
			return err
		}
		// A version 1 freezer holds killed tasks too. The signal is pending on all of them
		// now, so a thaw lets none return to its program.
		if all {
			err = c.thawKilled()
		}
		if err != nil {
			if gone(err) {
				return nil // another process saw it empty and removed it
			}
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d tasks of %s outlived SIGKILL: %w", len(pids), c.FreezerDir(), context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}

// thawKilled ends every freeze in the job's own cgroups, of tasks that have been killed.
func (c *Cgroup) thawKilled() error {
	err := c.writeFreezer(false)
	if err != nil || c.isUnified() || c.Dir() == c.FreezerDir() {
		return err
	}
	own := Cgroup{Dirs: map[string]string{"freezer": c.Dir()}}
	return own.writeFreezer(false)
}

// SendKill sends SIGKILL to every task and leaves a freeze as it is.
func (c *Cgroup) SendKill() error {
	for {
		pids, err := c.Pids()
		if err != nil {
			return err
		}
		if all, err := killAll(pids, c.Pids); err != nil || all {
			return err
		}
	}
}

// killAll sends SIGKILL to processes of the cgroup, and tells whether it holds no others now.
func killAll(pids []int, list func() ([]int, error)) (all bool, err error) {
	killed, err := KillTasks(pids, list)
	if err != nil {
		return false, err
	}
	now, err := list()
	return !slices.ContainsFunc(now, func(pid int) bool { return !killed[pid] }), err
}
