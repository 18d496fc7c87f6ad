package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stopped is a process all of whose threads we hold. All calls come from one thread.
type stopped struct {
	pid  int
	tids []int // running ones, none that has ended
	held map[int]bool
	owed []owed
}

// owed is a signal that we took from a thread.
type owed struct {
	tid int
	sig unix.Signal
}

// suitable says whether a process may be asked for a system call.
func suitable(pid int) error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch {
		case name == "State" && strings.ContainsAny(value[:1], "TtZX"):
			return fmt.Errorf("%w: process %d is %s", ErrCannot, pid, value)
		case name == "TracerPid" && value != "0":
			return fmt.Errorf("%w: process %d is traced by %s", ErrCannot, pid, value)
		case name == "Seccomp" && value != "0":
			return fmt.Errorf("%w: process %d has a seccomp filter", ErrCannot, pid)
		}
	}
	return nil
}

// stopAll stops every thread, also those that are made meanwhile.
func (s *stopped) stopAll() error {
	for {
		fresh, err := s.freshThreads()
		if err != nil {
			return err
		}
		if len(fresh) == 0 && len(s.tids) > 0 {
			return nil
		}
		if len(fresh) == 0 {
			return fmt.Errorf("%w: process %d has ended", ErrCannot, s.pid)
		}
		for _, tid := range fresh {
			if err := s.interrupt(tid); err != nil {
				return err
			}
		}
		for _, tid := range fresh {
			if err := s.await(tid); err != nil {
				return err
			}
		}
	}
}

// freshThreads lists threads that we do not hold yet and that have not ended.
func (s *stopped) freshThreads() ([]int, error) {
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.pid))
	if err != nil {
		return nil, err
	}
	var fresh []int
	for _, name := range names {
		tid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || s.held[tid] {
			continue
		}
		stat, err := os.ReadFile(name)
		_, rest, _ := strings.Cut(string(stat), ") ")
		if err != nil || strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X") {
			continue
		}
		fresh = append(fresh, tid)
	}
	return fresh, nil
}

// interrupt begins to stop a thread. One that ends meanwhile is none of ours.
func (s *stopped) interrupt(tid int) error {
	err := ptrace(unix.PTRACE_SEIZE, tid, 0, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: thread %d: %w", ErrCannot, tid, err)
	}
	s.held[tid] = true
	return ignoreGone(ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0))
}

// await waits until a thread that was interrupted has stopped.
func (s *stopped) await(tid int) error {
	if !s.held[tid] {
		return nil
	}
	sig, err := awaitStop(tid, stopTime)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	if sig != unix.SIGTRAP {
		s.owed = append(s.owed, owed{tid, sig})
	}
	s.tids = append(s.tids, tid)
	return nil
}

// letGo lets every thread run on, with the signals that it was to get.
func (s *stopped) letGo() error {
	var errs []error
	for _, tid := range s.tids {
		errs = append(errs, ignoreGone(ptrace(unix.PTRACE_DETACH, tid, 0, 0)))
	}
	for _, o := range s.owed {
		errs = append(errs, ignoreGone(unix.Tgkill(s.pid, o.tid, o.sig)))
	}
	return errors.Join(errs...)
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// awaitStop waits until a thread that we trace stops, and returns the signal it
// stopped with; ESRCH if it ended.
func awaitStop(tid int, within time.Duration) (unix.Signal, error) {
	for end := time.Now().Add(within); ; {
		var ws unix.WaitStatus
		got, err := unix.Wait4(tid, &ws, unix.WALL|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return 0, unix.ESRCH
		case err != nil:
			return 0, err
		case got == tid && ws.Stopped():
			return ws.StopSignal(), nil
		case got == tid:
			return 0, unix.ESRCH
		case time.Now().After(end):
			return 0, fmt.Errorf("%w: thread %d does not stop", ErrCannot, tid)
		}
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // cannot fail; a sleep would be longer than the wait
	}
}

const (
	getSignalMask = 0x420a
	setSignalMask = 0x420b
	maskSize      = 8
)

// blockSignals keeps signals from a stopped thread and returns its mask.
func blockSignals(tid int) (mask [maskSize]byte, err error) {
	if err := ptrace(getSignalMask, tid, maskSize, uintptr(unsafe.Pointer(&mask[0]))); err != nil {
		return mask, err
	}
	var all [maskSize]byte
	binary.NativeEndian.PutUint64(all[:], ^uint64(0))
	return mask, setMask(tid, all)
}

func setMask(tid int, mask [maskSize]byte) error {
	return ptrace(setSignalMask, tid, maskSize, uintptr(unsafe.Pointer(&mask[0])))
}

func ptrace(request, tid int, addr, data uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// take gets a copy of another process's descriptor.
func take(pid, fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, fd, 0)
}

// vdso is where the kernel's page of code lies in a process.
func vdso(pid int) (start, end uint64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
			return 0, 0, err
		}
		return start, end, nil
	}
	return 0, 0, fmt.Errorf("%w: process %d has no vdso", ErrCannot, pid)
}
