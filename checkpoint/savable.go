package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// ErrForking says that a thread of the job stayed between vfork and exec, where CRIU cannot save
// it.
var ErrForking = errors.New("a program is being started")

// ErrExecRunning says that a command of `migrate exec` runs in the job. Such a process does not
// descend from PID 1. CRIU does not see it, and it would end with the copy on the source.
var ErrExecRunning = errors.New("a command of `migrate exec` runs in the job")

// ErrStack says that CRIU would take all memory of a process for its stack. This node has not
// enough memory for such an image.
var ErrStack = errors.New("a thread sleeps with its stack pointer at the start of a page")

const (
	// maxObstacle is how long a vfork or a visit may go on. Most vforks take less than a
	// millisecond.
	maxObstacle = 2 * time.Second
	// stackRetries is how often a better moment is waited for, 32 ms in all. A thread that
	// sleeps for longer stays where it is.
	stackRetries = 6
)

// freeze freezes the job at a moment at which CRIU can save it, and save it well. With eager, CRIU
// saves all memory anyway. thaw has it run on if the moment is not right.
func (p *Processes) freeze(ctx context.Context, eager bool, thaw func(context.Context) error) error {
	pause := time.Millisecond
	end := time.Now().Add(maxObstacle)
	for tries := 0; ; tries++ {
		p.frozenByUs = true
		if err := p.Cgroup.Freeze(ctx); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
		if err := p.checkSuspended(); err != nil {
			return err
		}
		at, err := p.inspectFrozen()
		if err != nil || at.ok() {
			return err
		}
		if at.obstacle == nil && tries >= stackRetries {
			if eager {
				return nil // it writes all memory of all of them, as was reckoned with
			}
			return allowStacks(at.aligned)
		}
		if at.obstacle != nil && time.Now().After(end) {
			return fmt.Errorf("freeze: %w, for %v", at.obstacle, maxObstacle)
		}
		if err := thaw(ctx); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, 20*time.Millisecond)
	}
}

// thaw ends our freeze, and no other one.
func (p *Processes) thaw(ctx context.Context) error {
	if p.frozenByOther {
		return nil
	}
	if err := errors.Join(p.Cgroup.Gather(), p.Cgroup.Thaw(ctx)); err != nil {
		return err
	}
	p.frozenByUs, p.frozenAs = false, nil
	return nil
}

// freezeState is what speaks against saving the frozen job as it is.
type freezeState struct {
	// obstacle is why CRIU cannot save the job, nil if it can. It wraps [ErrExecRunning],
	// [ErrForking] or a [carry.Obstacle]. A thread in vfork waits for a child that has not executed a program yet. It cannot
	// be seized before the child goes on, and the child is frozen: CRIU would wait in vain.
	obstacle error
	// aligned are processes with a thread whose stack pointer is at the start of a page. CRIU 4.2 then
	// takes every page of the process for its stack: is_stack in its mem.c compares the wrong bits. It
	// writes all of them into its images. That takes time, although [image.MakeLazy] takes them out
	// again.
	aligned []int
}

func (m freezeState) ok() bool { return m.obstacle == nil && len(m.aligned) == 0 }

// inspectFrozen asks the kernel where the threads of the frozen job are. What it cannot read, CRIU
// will find out.
func (p *Processes) inspectFrozen() (m freezeState, err error) {
	pids, err := p.Cgroup.Pids()
	if err != nil {
		return m, err
	}
	if !slices.Contains(pids, p.Init) { // it ended before the freeze, and its pid may have been reused
		return m, fmt.Errorf("the job has ended: process %d is none of its cgroup", p.Init)
	}
	answer := p.askResources()
	all, err := pidmap.InNamespace(p.Init)
	if err != nil {
		return m, err
	}
	for _, e := range all {
		for _, thread := range e.Threads {
			at, err := procfs.ReadSyscall(e.Host, thread.Host)
			if err != nil {
				continue
			}
			if waitsForVfork(e.Host, at) {
				m.obstacle = fmt.Errorf("%w: process %d waits for a child that it has made by vfork", ErrForking, e.Host)
			}
			if at.Stack != 0 && at.Stack%stream.PageSize == 0 && !slices.Contains(m.aligned, e.Host) {
				m.aligned = append(m.aligned, e.Host)
			}
		}
	}
	p.frozenAs = all
	passing, err := answer()
	if err != nil {
		return m, err
	}
	if passing != nil {
		m.obstacle = passing
	}
	err = p.checkExec(all)
	if errors.Is(err, ErrExecRunning) {
		m.obstacle, err = err, nil
	}
	return m, err
}

// askResources asks for what is about to pass, while we look at threads.
func (p *Processes) askResources() (answer func() (*carry.Obstacle, error)) {
	var o *carry.Obstacle
	var err error
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		o, err = table.Carried.Passing(p.Init)
	}()
	return func() (*carry.Obstacle, error) {
		<-asked
		return o, err
	}
}

// checkExec wraps [ErrExecRunning] if one of the frozen processes is a command of `migrate exec`.
// Such a command enters the cgroup first.
func (p *Processes) checkExec(all []pidmap.Entry) error {
	for _, v := range pidmap.Visitors(all) {
		return fmt.Errorf("%w: process %d (%s)", ErrExecRunning, v.Host, v.Comm)
	}
	inside := map[int]bool{}
	for _, e := range all {
		inside[e.Host] = true
	}
	pids, err := p.Cgroup.Pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if !inside[pid] {
			return fmt.Errorf("%w: process %d is about to start one", ErrExecRunning, pid)
		}
	}
	return nil
}

// allowStacks accepts that CRIU writes all memory of some processes into its images for a while.
// The node must have twice that much memory available.
func allowStacks(pids []int) error {
	free, err := tmpfs.Available()
	if err != nil {
		return err
	}
	var need int64
	for _, pid := range pids {
		need += anonymousMemory(pid)
	}
	return checkFree(pids, need, free)
}

func checkFree(pids []int, need, free int64) error {
	if need <= free/2 {
		return nil
	}
	return fmt.Errorf("freeze: %w (processes %v): CRIU would write %d MiB of memory, and %d are available; the thread may be elsewhere at another time",
		ErrStack, pids, need>>20, free>>20)
}

// anonymousMemory is how much memory of its own a process has, in bytes; 0 if it has ended.
func anonymousMemory(pid int) int64 {
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return 0
	}
	return status.Size("RssAnon") + status.Size("VmSwap")
}
