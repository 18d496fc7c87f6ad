package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// Thread is a thread that has stopped. Its methods are for mend of [Run] only.
type Thread struct {
	TID      int // in our pid namespace
	ctx      context.Context
	callAddr uint64 // of a system call instruction; 0: not looked for yet
}

// Regs reads the registers.
func (t *Thread) Regs() (unix.PtraceRegs, error) {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(t.TID, &regs); err != nil {
		return regs, fmt.Errorf("registers of thread %d: %w", t.TID, err)
	}
	return regs, nil
}

// SetRegs writes the registers.
func (t *Thread) SetRegs(regs unix.PtraceRegs) error {
	if err := unix.PtraceSetRegs(t.TID, &regs); err != nil {
		return fmt.Errorf("registers of thread %d: %w", t.TID, err)
	}
	return nil
}

// SameProcess says that another thread is of the same process: what was looked up there holds here.
func (t *Thread) SameProcess(as *Thread) { t.callAddr = as.callAddr }

// Syscall has the thread make a system call with up to six arguments, and returns what it returned.
// An errno is the error. Registers and signals of the thread are as before, afterwards.
func (t *Thread) Syscall(number uintptr, args ...uint64) (uint64, error) {
	result, err := t.make(call{number: number, args: args})
	if err == nil && result < 0 && result >= -4095 {
		return 0, unix.Errno(-result)
	}
	return uint64(result), err
}

// Interrupted is a Syscall that would wait, and is interrupted at once. It returns the call's result as
// the kernel has it before it looks for signals: -ERESTARTNOHAND, -EINTR and the like. If it is
// -ERESTART_RESTARTBLOCK the kernel has kept what it needs to go on with the call.
func (t *Thread) Interrupted(number uintptr, args ...uint64) (result int64, err error) {
	return t.make(call{number: number, args: args, interrupt: true})
}

// call is a system call to inject.
type call struct {
	number    uintptr
	args      []uint64
	interrupt bool // when it has begun
}

func (t *Thread) make(c call) (result int64, err error) {
	was, err := t.Regs()
	if err != nil {
		return 0, err
	}
	if t.callAddr == 0 {
		if t.callAddr, err = findSyscall(t.TID); err != nil {
			return 0, err
		}
	}
	mask, err := t.blockSignals()
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, t.SetRegs(was), t.setMask(mask))
	}()
	regs := was
	regs.Rip, regs.Rax, regs.Orig_rax = t.callAddr, uint64(c.number), ^uint64(0)
	for i, to := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx, &regs.R10, &regs.R8, &regs.R9}[:len(c.args)] {
		*to = c.args[i]
	}
	if err := t.SetRegs(regs); err != nil {
		return 0, err
	}
	return t.run(c.interrupt)
}

// run runs the system call that the registers are set up for, and brings the thread back to the
// stop in which it was.
func (t *Thread) run(interrupt bool) (int64, error) {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_SUSPEND_SECCOMP
	if err := unix.PtraceSetOptions(t.TID, options); err != nil {
		return 0, fmt.Errorf("thread %d: %w", t.TID, err)
	}
	if err := t.toCall(); err != nil { // its entry
		return 0, err
	}
	if interrupt {
		if err := unix.PtraceInterrupt(t.TID); err != nil {
			return 0, fmt.Errorf("thread %d: %w", t.TID, err)
		}
	}
	if err := t.toCall(); err != nil { // its exit
		return 0, err
	}
	done, err := t.Regs()
	if err != nil {
		return 0, err
	}
	if err := errors.Join(unix.PtraceInterrupt(t.TID), unix.PtraceCont(t.TID, 0)); err != nil {
		return 0, fmt.Errorf("thread %d: %w", t.TID, err)
	}
	if alive, err := t.awaitTrap(); err != nil || !alive {
		return 0, fmt.Errorf("thread %d ended in a system call: %w", t.TID, errors.Join(err, unix.ESRCH))
	}
	return int64(done.Rax), nil
}

// toCall lets the thread go on to the entry or the exit of a system call.
func (t *Thread) toCall() error {
	if err := unix.PtraceSyscall(t.TID, 0); err != nil {
		return fmt.Errorf("thread %d: %w", t.TID, err)
	}
	ws, err := t.wait()
	if err != nil {
		return err
	}
	if !ws.Stopped() || !isCall(ws) {
		return fmt.Errorf("thread %d did not make a system call: wait status %#x", t.TID, int(ws))
	}
	return nil
}

// blockSignals holds all signals back, and returns the mask that was.
func (t *Thread) blockSignals() (was uint64, err error) {
	if err := t.mask(unix.PTRACE_GETSIGMASK, &was); err != nil {
		return 0, err
	}
	return was, t.setMask(^uint64(0))
}

func (t *Thread) setMask(mask uint64) error { return t.mask(unix.PTRACE_SETSIGMASK, &mask) }

func (t *Thread) mask(request uintptr, mask *uint64) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, request, uintptr(t.TID), unsafe.Sizeof(*mask), uintptr(unsafe.Pointer(mask)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("signal mask of thread %d: %w", t.TID, errno)
	}
	return nil
}

// syscallInstruction is that of x86-64.
var syscallInstruction = []byte{0x0f, 0x05}

// findSyscall finds such an instruction in the code that the kernel gives every process.
func findSyscall(tid int) (uint64, error) {
	for m, err := range procfs.Maps(fmt.Sprintf("/proc/%d/maps", tid)) {
		if err != nil {
			return 0, err
		}
		if m.Name != "[vdso]" {
			continue
		}
		code := make([]byte, min(m.End-m.Start, 1<<16))
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
		if err != nil {
			return 0, err
		}
		_, err = mem.ReadAt(code, int64(m.Start))
		if err := errors.Join(err, mem.Close()); err != nil {
			return 0, fmt.Errorf("vdso of thread %d: %w", tid, err)
		}
		if i := bytes.Index(code, syscallInstruction); i >= 0 {
			return m.Start + uint64(i), nil
		}
	}
	return 0, fmt.Errorf("thread %d has no vdso with a system call in it", tid)
}
