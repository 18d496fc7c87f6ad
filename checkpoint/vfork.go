package checkpoint

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

// ErrForking says that a thread of the job stayed between vfork and exec, where nobody
// can save it.
var ErrForking = errors.New("a program is being started")

// forkTime is how long a vfork may go on. Most take less than a millisecond.
const forkTime = 2 * time.Second

// freezeWhole freezes the job at a moment at which no thread of it waits for a child that
// it has made by vfork and that runs no program of its own yet. Such a thread stops for
// nobody before the child goes on, and that is frozen: CRIU would wait for it in vain.
func (s *Source) freezeWhole(ctx context.Context) error {
	pause := time.Millisecond
	for end := time.Now().Add(forkTime); ; pause = min(2*pause, 20*time.Millisecond) {
		if err := s.Cgroup.Freeze(ctx); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
		pid, err := s.forking()
		if err != nil || pid == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("freeze: %w: process %d has waited for %v for a child that it has made by vfork", ErrForking, pid, forkTime)
		}
		if err := s.Cgroup.Thaw(ctx); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// forking finds a process of the frozen job with a thread that is inside a system call by
// which processes are made; 0 is none. Only one that waits for its child stays in there.
func (s *Source) forking() (pid int, err error) {
	tasks, err := s.tasks()
	if err != nil {
		return 0, err
	}
	for _, t := range tasks {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", t.PID))
		if err != nil {
			return 0, err
		}
		for _, name := range threads {
			text, err := os.ReadFile(name)
			if err != nil {
				continue // the kernel does not tell; CRIU will find out
			}
			if call, _, _ := strings.Cut(string(text), " "); forks[call] {
				return t.PID, nil
			}
		}
	}
	return 0, nil
}

// forks are the system calls that make processes, as /proc/PID/syscall has them.
var forks = map[string]bool{
	fmt.Sprint(unix.SYS_VFORK): true, fmt.Sprint(unix.SYS_CLONE): true, fmt.Sprint(unix.SYS_CLONE3): true,
}
