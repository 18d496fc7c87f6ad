package node

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/shim"
)

// AwaitShimExit waits until the shim has cleaned up and ended, so that the job
// may come back. It fails with the cause of ctx.
func (n *Node) AwaitShimExit(ctx context.Context, id job.ID) error {
	for {
		st, err := n.ShimOf(id).Status(ctx)
		if errors.Is(err, shim.ErrGone) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			AwaitProcess(ctx, st.Shim, time.Second)
		} else {
			time.Sleep(httpjson.BusyPause)
		}
	}
}

// AwaitProcess returns when the process has ended, ctx ends or most has passed.
func AwaitProcess(ctx context.Context, pid int, most time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	const step = 100 * time.Millisecond // how late a cancelled ctx may be noticed
	for end := time.Now().Add(most); ctx.Err() == nil && time.Now().Before(end); {
		n, err := linux.RetryValue(func() (int, error) {
			return unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		})
		if n > 0 || err != nil {
			return
		}
	}
}

// HasRunDir tells whether the run directory of a job exists: its shim has not cleaned up.
func (n *Node) HasRunDir(id job.ID) bool {
	_, err := os.Lstat(n.Paths.JobRun(id))
	return err == nil
}
