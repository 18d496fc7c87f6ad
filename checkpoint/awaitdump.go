package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/migrate-hpc/migrate/procfs"
)

// pidFile is the path of the file in which the pid of the CRIU that dumps is noted.
type pidFile string

func (s *Source) dumpPID() pidFile { return pidFile(filepath.Join(s.Dir, "criu.pid")) }

// record records the pid of the CRIU that is about to dump, before the request is sent. A later
// Thaw, also of another agent, waits for that CRIU.
func (f pidFile) record(pid int) error {
	began, err := startTime(pid)
	if errors.Is(err, errEnded) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note the pid of CRIU: %w", err)
	}
	//house:allow os.WriteFile: a note for this boot, in a tmpfs
	return os.WriteFile(string(f), fmt.Appendf(nil, "%d %d\n", pid, began), 0o600)
}

// stuckDump is how long await waits before it thaws: CRIU may wait for a task that a signal
// had stopped and that our freezer holds.
const stuckDump = 2 * time.Second

// await waits until the recorded CRIU, if any, has ended. CRIU freezes the job once more when
// it detaches. Killing it does not help, see package criu. CRIU cannot detach from a suspended job
// before that is resumed, and await does not wait for it.
func (f pidFile) await(ctx context.Context, of *Processes) error {
	data, err := os.ReadFile(string(f))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var pid int
	var noted uint64
	if _, err := fmt.Sscan(string(data), &pid, &noted); err != nil {
		return nil // cut short by a crash, and so no request has been sent
	}
	stuck := time.NewTimer(stuckDump)
	defer stuck.Stop()
	for {
		switch now, err := startTime(pid); {
		case errors.Is(err, errEnded) || err == nil && now != noted:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-stuck.C:
			if err := of.checkSuspended(); err != nil {
				return fmt.Errorf("CRIU (pid %d) holds the job until it is resumed: %w", pid, err)
			}
			if err := of.Cgroup.Thaw(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("CRIU (pid %d) still holds the job, look at /proc/%d/stack: %w", pid, pid, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var errEnded = errors.New("the process has ended")

// startTime is when a process began, in ticks since the boot. Pid and start time together identify
// a process. Its name does not: a loader may have executed the program. A zombie has ended.
func startTime(pid int) (uint64, error) {
	stat, err := procfs.ReadStat(pid)
	if procfs.IsGone(err) || err == nil && stat.Ended() {
		return 0, errEnded
	}
	return stat.Began, err
}
