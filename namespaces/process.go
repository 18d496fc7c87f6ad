package namespaces

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/procfs"
)

// Process is a job's PID 1, a child of this process. Signals and waits go by its pidfd, because a
// pid may be reused.
type Process struct {
	Pid int // in our pid namespace
	fd  int
}

// OpenProcess opens a child that CRIU has restored. Only this process reaps it.
func OpenProcess(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("hold on to process %d: %w", pid, err)
	}
	p, err := processOf(fd)
	if err == nil && p.Pid != pid {
		err = fmt.Errorf("process %d is process %d", pid, p.Pid)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return p, nil
}

// processOf asks the kernel for the process of a pidfd. It refuses a process that is not a child
// of this one. It also refuses one that is not PID 1 of a pid namespace directly below ours.
func processOf(fd int) (*Process, error) {
	if err := waitid(fd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT); err != nil {
		return nil, fmt.Errorf("the process is no child of ours: %w", err)
	}
	info, err := procfs.ReadFields(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return nil, err
	}
	pids, err := info.Numbers("NSpid")
	if err != nil || len(pids) != 2 || pids[0] == 0 || pids[1] != 1 {
		return nil, errors.Join(errors.New("the process is not PID 1 of a pid namespace beneath ours"), err)
	}
	return &Process{fd: fd, Pid: int(pids[0])}, nil
}

// Signal fails with ESRCH when the process has ended and was reaped.
func (p *Process) Signal(sig unix.Signal) error { return unix.PidfdSendSignal(p.fd, sig, nil, 0) }

// Wait reaps the process when it ends.
func (p *Process) Wait() (unix.WaitStatus, error) {
	var end childStatus
	err := waitid(p.fd, &end, unix.WEXITED)
	return end.status(), err
}

// kill ends the process and tells whether it has ended. The Process is of no use afterwards.
func (p *Process) kill() bool {
	defer unix.Close(p.fd)
	_ = p.Signal(unix.SIGKILL)
	for end := time.Now().Add(killTime); ; time.Sleep(time.Millisecond) {
		var dead childStatus
		if err := waitid(p.fd, &dead, unix.WEXITED|unix.WNOHANG); err != nil || dead.signo != 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// childStatus is what waitid(2) fills in of a siginfo_t.
type childStatus struct {
	signo, errno, code, _ int32
	pid, uid              int32
	value                 int32
	_                     [100]byte
}

func waitid(fd int, end *childStatus, options int) error {
	return linux.Retry(func() error {
		return unix.Waitid(unix.P_PIDFD, fd, (*unix.Siginfo)(unsafe.Pointer(end)), options, nil)
	})
}

// status is the wait status as wait4(2) returns it.
func (e childStatus) status() unix.WaitStatus {
	const exited, dumped = 1, 3 // CLD_EXITED, CLD_DUMPED
	switch e.code {
	case exited:
		return unix.WaitStatus(e.value << 8)
	case dumped:
		return unix.WaitStatus(e.value | 0x80)
	}
	return unix.WaitStatus(e.value)
}

const (
	reportGrace = time.Second     // for what the stages of a start that is given up have still to say
	killTime    = 2 * time.Second // for a process to end that was killed
)
