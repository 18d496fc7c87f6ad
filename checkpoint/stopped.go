package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// freeStopped helps CRIU, a process of the node, to get hold of threads that a signal has stopped,
// until it has seized all. A version 1 freezer does not let a stopped thread wake up for ptrace(2).
// CRIU would wait for it, before it thaws the others.
//
// CRIU itself shows for which thread it waits, so one that stops at the moment of the freeze is found,
// too. That thread leaves the freezer, and is put back when it stands in its trap for CRIU. In between
// it executes nothing of its program. If SIGCONT has come just then, CRIU seizes a thread that runs,
// and nothing of the job has been read before.
func (p *Processes) freeStopped(ctx context.Context, criu int, seized <-chan struct{}, giveUp func(error)) {
	pause := slowLook
	for {
		select {
		case <-ctx.Done():
			return
		case <-seized:
			return
		case <-time.After(pause):
		}
		pause = slowLook
		tid := waitsToSeize(criu)
		if tid == 0 {
			continue
		}
		if err := p.letTrap(ctx, tid); err != nil && ctx.Err() == nil {
			giveUp(err)
			return
		}
		pause = fastLook // the process has stopped with all its threads
	}
}

// Pauses between two looks at CRIU. There are some twenty looks at a job without a stopped thread.
const (
	slowLook = time.Millisecond
	fastLook = 50 * time.Microsecond
	trapTime = 5 * time.Second // for a thread to reach a trap, on a busy node
)

var errNoTrap = errors.New("it did not stop for CRIU in time")

// letTrap lets a stopped thread take the step from its stop to the trap in which CRIU waits for it.
func (p *Processes) letTrap(ctx context.Context, tid int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, trapTime, errNoTrap)
	defer cancel()
	err := p.Cgroup.ThawThread(ctx, tid, func() bool { return !isHeld(tid) })
	if err != nil {
		return fmt.Errorf("thread %d is stopped by a signal: %w", tid, err)
	}
	return nil
}

// isHeld tells whether a thread still has to reach a trap.
func isHeld(tid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", tid, tid))
	if err != nil {
		return false // it has ended
	}
	stat, err := procfs.ParseStat(string(text))
	return err == nil && stat.State != 't' && !stat.Ended()
}

// waitsToSeize is the thread for which CRIU waits in PTRACE_SEIZE, 0 for none. The kernel shows a
// system call of those that sleep in it alone.
func waitsToSeize(criu int) int {
	at, err := whereIs(criu, criu)
	if err != nil || at.call != unix.SYS_PTRACE || at.first != unix.PTRACE_SEIZE {
		return 0
	}
	return int(at.second)
}
