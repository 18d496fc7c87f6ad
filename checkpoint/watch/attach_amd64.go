package watch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/thread"
)

// Attach begins to watch a process, given by its pid here. Nothing is protected yet.
// The process stands still meanwhile, for 0.1 ms to some ms. An error that wraps ErrCannot says that
// it was left alone.
func Attach(pid int) (*Watch, error) {
	if err := suitable(pid); err != nil {
		return nil, err
	}
	var uffd int
	err := thread.Throwaway(func() (err error) { // whose end lets go of everything that is still traced
		uffd, err = borrow(pid)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return newWatch(uffd, pid)
}

// borrow has the process make a userfaultfd and takes it.
func borrow(pid int) (uffd int, err error) {
	call, err := syscallInstruction(pid)
	if err != nil {
		return 0, err
	}
	s := &stopped{pid: pid, held: map[int]bool{}}
	defer func() { err = errors.Join(err, s.letGo()) }()
	if err := s.stopAll(); err != nil {
		return 0, err
	}
	return s.userfaultfd(call)
}

// syscallInstruction finds one in the vdso, which every process has.
func syscallInstruction(pid int) (uint64, error) {
	start, end, err := vdso(pid)
	if err != nil {
		return 0, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	code := make([]byte, end-start)
	if _, err := mem.ReadAt(code, int64(start)); err != nil {
		return 0, err
	}
	at := bytes.Index(code, []byte{0x0f, 0x05})
	if at < 0 {
		return 0, fmt.Errorf("%w: no syscall instruction in the vdso of process %d", ErrCannot, pid)
	}
	return start + uint64(at), nil
}

// userfaultfd makes the descriptor in the process and takes it out.
func (s *stopped) userfaultfd(call uint64) (fd int, err error) {
	tid := s.tids[0]
	var saved unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &saved); err != nil {
		return 0, err
	}
	if saved.Cs != 0x33 {
		return 0, fmt.Errorf("%w: process %d runs 32-bit code", ErrCannot, s.pid)
	}
	mask, err := blockSignals(tid)
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, unix.PtraceSetRegs(tid, &saved), setMask(tid, mask))
	}()
	n, err := s.run(tid, saved, call, unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|userModeOnly)
	if err != nil {
		return 0, err
	}
	if n < 0 {
		return 0, fmt.Errorf("%w: userfaultfd in process %d: %w", ErrCannot, s.pid, unix.Errno(-n))
	}
	fd, err = take(s.pid, int(n))
	closed, closeErr := s.run(tid, saved, call, unix.SYS_CLOSE, uint64(n))
	if closeErr == nil && closed != 0 {
		closeErr = unix.Errno(-closed)
	}
	return fd, errors.Join(err, closeErr)
}

// run has a stopped thread do one system call and returns its result.
func (s *stopped) run(tid int, regs unix.PtraceRegs, call, number, arg uint64) (int64, error) {
	regs.Rip, regs.Rax, regs.Rdi = call, number, arg
	regs.Orig_rax = ^uint64(0) // not in a system call: the one that was interrupted is not restarted here
	if err := unix.PtraceSetRegs(tid, &regs); err != nil {
		return 0, err
	}
	for regs.Rip == call { // a thread that was in a system call traps once before it takes its first step
		if err := unix.PtraceSingleStep(tid); err != nil {
			return 0, err
		}
		sig, err := awaitStop(tid, stepTime)
		if err != nil {
			return 0, err
		}
		if sig != unix.SIGTRAP {
			s.owed = append(s.owed, owed{tid, sig}) // SIGSTOP cannot be blocked
		}
		if err := unix.PtraceGetRegs(tid, &regs); err != nil {
			return 0, err
		}
	}
	if regs.Rip != call+2 {
		return 0, fmt.Errorf("thread %d is at %#x after the call, not at %#x", tid, regs.Rip, call+2)
	}
	return int64(regs.Rax), nil
}

// stopTime is how long a thread may take to stop. One that sleeps in the kernel
// uninterruptibly does not.
const stopTime = 200 * time.Millisecond

// stepTime is how long a thread may take for a step of ours, which it has to make: let
// go of before, it would go on in the middle of our call, and a trap that comes when
// nobody traces it ends the process. The step itself is short, but on a busy node the
// thread may have to wait for a processor.
const stepTime = time.Minute
