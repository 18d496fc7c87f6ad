package namespaces

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Freeze stops every task of the cgroup and returns when the kernel says that
// they stand still. Freezing what is frozen does nothing.
func (c *Cgroup) Freeze(ctx context.Context) error {
	return c.hold(ctx, true)
}

// Thaw lets the tasks run again. In a cgroup that is gone nothing is frozen.
func (c *Cgroup) Thaw(ctx context.Context) error {
	if _, err := os.Stat(c.FreezerDir()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := c.hold(ctx, false); !gone(err) {
		return err
	}
	return nil
}

// gone tells the errors of a cgroup that is not there any more: its files vanish
// with it, also those that are open.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

func (c *Cgroup) hold(ctx context.Context, frozen bool) error {
	for {
		// A version 1 freezer can get stuck half way when a task forks at the
		// wrong moment; writing again helps.
		if err := c.writeFreezer(frozen); err != nil {
			return err
		}
		now, err := c.Frozen()
		if err != nil {
			return err
		}
		if now == frozen {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup %s did not reach frozen=%v: %w", c.FreezerDir(), frozen, context.Cause(ctx))
		case <-time.After(200 * time.Microsecond):
		}
	}
}

func (c *Cgroup) writeFreezer(frozen bool) error {
	file, value := "freezer.state", "THAWED"
	if frozen {
		value = "FROZEN"
	}
	if c.isUnified() {
		file, value = "cgroup.freeze", "0"
		if frozen {
			value = "1"
		}
	}
	if err := os.WriteFile(filepath.Join(c.FreezerDir(), file), []byte(value), 0); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// Frozen asks the kernel whether every task of the cgroup stands still.
func (c *Cgroup) Frozen() (bool, error) {
	if !c.isUnified() {
		data, err := os.ReadFile(filepath.Join(c.FreezerDir(), "freezer.state"))
		return strings.TrimSpace(string(data)) == "FROZEN", err
	}
	data, err := os.ReadFile(filepath.Join(c.FreezerDir(), "cgroup.events"))
	return strings.Contains(string(data), "frozen 1"), err
}

// Kill ends every task of the cgroup, frozen or not, without letting one of
// them run again, and waits until the cgroup is empty. Zombies count as gone
// once their parent has reaped them, so the caller must be reaping.
func (c *Cgroup) Kill(ctx context.Context) error {
	for {
		pids, err := c.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := KillTasks(pids, c.Pids); err != nil {
			return err
		}
		// A version 1 freezer holds even the killed; the signal is pending on all
		// of them by now, so none returns to its program.
		if err := c.writeFreezer(false); err != nil {
			if gone(err) {
				return nil // removed by whoever saw it empty first
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
