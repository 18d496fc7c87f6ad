package inject

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// Target names a thread. With its start time it is told from another one that has its number by now.
type Target struct {
	TID   int    // in our pid namespace
	Began uint64 // in ticks since the boot
}

// ErrTraced says that a thread cannot be stopped because another process traces it.
var ErrTraced = errors.New("another process traces it")

// seizeTime bounds how long the seizure of one thread may take.
const seizeTime = time.Second

// errStuck says that a thread could not even be seized. A signal has stopped it, and a version 1
// freezer does not let it wake up for ptrace(2); or its process has begun to execute another program.
var errStuck = fmt.Errorf("a thread cannot be seized within %v", seizeTime)

// Run stops the threads, which are frozen when it begins: let thaws them. When all have stopped, and
// before one of them runs on, mend gets those that have not ended. Run lets go of them whatever mend
// returns. let is called even if a thread cannot be stopped, and mend is not called then. A mend that
// hangs is left to itself soon after the end of ctx. The freezer is what holds the threads, nil if no
// signal can have stopped one of them.
func Run(ctx context.Context, f Freezer, targets []Target, let func() error, mend func([]*Thread) error) error {
	freed := make(chan error, 1)
	stuck := time.AfterFunc(seizeTime, func() { freed <- let() }) // nothing else ends a seizure
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, f, targets, stuck, let, mend) }()
	select {
	case err := <-ended:
		if errors.Is(err, errStuck) {
			err = errors.Join(err, <-freed)
		}
		return err
	case err := <-freed:
		return errors.Join(errStuck, err)
	case <-overdue(ctx):
		return fmt.Errorf("threads are not mended in time: %w", context.Cause(ctx))
	}
}

// overdue is closed when ctx has ended for so long that run must wait for something that ctx does not
// end, such as a page of the job's memory that a file server has.
func overdue(ctx context.Context) <-chan struct{} {
	late := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(2*seizeTime, func() { close(late) }) })
	return late
}

// run does the work of Run. It calls let unless stuck has fired.
func run(ctx context.Context, f Freezer, targets []Target, stuck *time.Timer, let func() error, mend func([]*Thread) error) error {
	return osthread.Throwaway(func() error { // the tracer of a thread is a thread
		helped := helpSeize(ctx, f)
		threads, err := seize(ctx, targets, stuck)
		helped()
		if !stuck.Stop() {
			return errStuck
		}
		if err := errors.Join(err, let()); err != nil {
			return err // this thread ends, and what it traces is let go
		}
		if threads, err = awaitStops(ctx, threads); err != nil {
			return err
		}
		err = mend(threads)
		for _, t := range threads {
			err = errors.Join(err, ignoreGone(unix.PtraceDetach(t.TID)))
		}
		return err
	})
}

// seize has threads stop as soon as they run. It gives each of them as much time as stuck has.
func seize(ctx context.Context, targets []Target, stuck *time.Timer) (threads []*Thread, err error) {
	for _, t := range targets {
		if !stuck.Stop() {
			return threads, errStuck
		}
		stuck.Reset(seizeTime)
		if ctx.Err() != nil {
			return threads, context.Cause(ctx)
		}
		switch err := unix.PtraceSeize(t.TID); {
		case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EPERM) && hasEnded(t.TID):
			continue
		case errors.Is(err, unix.EPERM):
			return threads, fmt.Errorf("stop thread %d: %w", t.TID, ErrTraced)
		case err != nil:
			return threads, fmt.Errorf("stop thread %d: %w", t.TID, err)
		}
		// What is traced keeps its number, so this is about the thread that was seized.
		if began, err := pidmap.Began(t.TID); err != nil || began != t.Began {
			return threads, fmt.Errorf("thread %d is another one by now: it began at %d, not at %d: %w", t.TID, began, t.Began, errors.Join(err, unix.ESRCH))
		}
		if err := ignoreGone(unix.PtraceInterrupt(t.TID)); err != nil {
			return threads, fmt.Errorf("stop thread %d: %w", t.TID, err)
		}
		threads = append(threads, &Thread{TID: t.TID})
	}
	return threads, nil
}

// awaitStops waits until all threads have stopped, and returns those that have not ended.
func awaitStops(ctx context.Context, threads []*Thread) (stopped []*Thread, err error) {
	for _, t := range threads {
		t.ctx = ctx
		alive, err := t.awaitTrap()
		if err != nil {
			return nil, err
		}
		if alive {
			stopped = append(stopped, t)
		}
	}
	return stopped, nil
}

// awaitTrap waits until the thread is where the kernel looks for signals, and takes what comes
// before. It returns false for a thread that has ended.
func (t *Thread) awaitTrap() (alive bool, err error) {
	for {
		ws, err := t.wait()
		if err != nil || ws.Exited() || ws.Signaled() {
			return false, ignoreGone(err)
		}
		if event(ws) == unix.PTRACE_EVENT_STOP {
			return true, nil
		}
		pass := 0 // to the thread, of a signal that it is about to take
		if event(ws) == 0 && !isCall(ws) {
			pass = int(ws.StopSignal())
		}
		// The interrupt of seize is still to come.
		if err := unix.PtraceCont(t.TID, pass); err != nil {
			return false, ignoreGone(err)
		}
	}
}

// wait waits for the next stop of the thread.
func (t *Thread) wait() (ws unix.WaitStatus, err error) {
	for pause := 10 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		got, err := linux.RetryValue(func() (int, error) {
			return unix.Wait4(t.TID, &ws, unix.WALL|unix.WNOHANG|unix.WNOTHREAD, nil)
		})
		if errors.Is(err, unix.ECHILD) {
			err = unix.ESRCH
		}
		if err != nil || got == t.TID {
			return ws, err
		}
		select {
		case <-t.ctx.Done():
			return ws, fmt.Errorf("thread %d does not stop: %w", t.TID, context.Cause(t.ctx))
		case <-time.After(pause):
		}
	}
}

// event is the ptrace event of a stop, 0 if it is another kind of stop.
func event(ws unix.WaitStatus) int { return int(ws) >> 16 }

// isCall tells the stop at the entry or exit of a system call, see PTRACE_O_TRACESYSGOOD.
func isCall(ws unix.WaitStatus) bool { return ws.StopSignal() == unix.SIGTRAP|0x80 }

// hasEnded tells whether a thread has ended, and waits to be collected.
func hasEnded(tid int) bool {
	stat, err := procfs.ReadStat(tid)
	return procfs.IsGone(err) || err == nil && stat.Ended()
}

// ignoreGone drops the error for a thread that has ended: it was killed.
func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
