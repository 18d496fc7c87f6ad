package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// Freezer holds the threads.
type Freezer interface {
	// FrozenTasksWake tells whether a frozen task wakes up for ptrace(2).
	FrozenTasksWake() bool
	// ThawThread takes one thread out of the freezer until it stands elsewhere, and puts it back.
	ThawThread(ctx context.Context, tid int, stands func() bool) error
}

// FreeStopped helps a tracer, a thread of the node, to get hold of threads that a signal has stopped,
// until it has seized all. A version 1 freezer does not let a stopped thread wake up for ptrace(2), and
// PTRACE_SEIZE waits for that.
//
// The tracer itself shows for which thread it waits, so one that stops at the moment of the freeze is
// found, too. That thread leaves the freezer, and is put back when it stands in its trap. In between it
// executes nothing of its program. Only if SIGCONT comes just then, it may, until the tracer
// interrupts it.
func FreeStopped(ctx context.Context, f Freezer, tracer int, seized <-chan struct{}) error {
	pause := slowLook
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-seized:
			return nil
		case <-time.After(pause):
		}
		pause = slowLook
		tid := waitsToSeize(tracer)
		if tid == 0 {
			continue
		}
		if err := letTrap(ctx, f, tid); err != nil {
			return err
		}
		pause = fastLook // a process stops with all its threads
	}
}

// Pauses between two looks at the tracer.
const (
	slowLook = time.Millisecond
	fastLook = 50 * time.Microsecond
	trapTime = 5 * time.Second // for a thread to reach a trap, on a busy node
)

var errNoTrap = errors.New("it has not reached its trap in time")

// letTrap lets a stopped thread take the step from its stop to the trap in which its tracer waits for it.
func letTrap(ctx context.Context, f Freezer, tid int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, trapTime, errNoTrap)
	defer cancel()
	if err := f.ThawThread(ctx, tid, func() bool { return !isHeld(tid) }); err != nil {
		return fmt.Errorf("thread %d, which a signal has stopped: %w", tid, err)
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

// waitsToSeize is the thread for which a tracer waits in PTRACE_SEIZE, 0 for none. The kernel shows a
// system call only of those that sleep in it.
func waitsToSeize(tracer int) int {
	at, err := procfs.ReadSyscall(tracer, tracer)
	if err != nil || at.Number != unix.SYS_PTRACE || at.First != unix.PTRACE_SEIZE {
		return 0
	}
	return int(at.Second)
}

// helpSeize is FreeStopped for this thread, which no error and no deadline ends while it waits in the
// kernel.
func helpSeize(ctx context.Context, f Freezer) (end func()) {
	if f == nil || f.FrozenTasksWake() {
		return func() {}
	}
	ctx, tracer := context.WithoutCancel(ctx), unix.Gettid()
	seized, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for FreeStopped(ctx, f, tracer, seized) != nil {
		}
	}()
	return func() {
		close(seized)
		<-ended
	}
}
