package cgroup

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// maxPidfds bounds how many descriptors of tasks are open at a time.
const maxPidfds = 256

// KillTasks sends SIGKILL to those of pids that pidsNow still lists. It returns the pids that got
// the signal.
//
// A pid may be reused before the signal is sent. So KillTasks opens a pidfd first and lists the
// pids again. A pid that is listed after that belongs to the process of the pidfd, or that process
// has ended.
func KillTasks(pids []int, pidsNow func() ([]int, error)) (killed map[int]bool, err error) {
	killed = map[int]bool{}
	for some := range slices.Chunk(pids, maxPidfds) {
		if err := killChunk(some, pidsNow, killed); err != nil {
			return killed, err
		}
	}
	return killed, nil
}

func killChunk(pids []int, pidsNow func() ([]int, error), killed map[int]bool) (err error) {
	held := map[int]int{}
	defer func() {
		for _, fd := range held {
			_ = unix.Close(fd) // nothing was written
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
		held[pid] = fd
	}
	now, err := pidsNow()
	if err != nil {
		return err
	}
	for _, pid := range now {
		fd, ok := held[pid]
		if !ok {
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
		killed[pid] = true
	}
	return nil
}
