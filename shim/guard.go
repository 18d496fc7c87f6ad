package shim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// The guard is a process beside the shim for as long as a restored job lacks
// memory. It holds copies of the job's userfaultfds. If the shim is killed, the kernel
// closes the shim's. Without the copies the job would then read zeros where its memory
// has not arrived. The guard sees its socket to the shim close. It ends the job, and only
// then closes the copies.
//
// On the socket, one message each: an operation, and the number of the task.
const guardName = "migrate:guard"

const (
	guardFD   = 3
	opHold    = 'k' // with the descriptor
	opDrop    = 'l'
	opDismiss = 'q' // the end, in good order
	opSize    = 5
)

// guard is the shim's handle on it; it is a uffd.FDHolder.
type guard struct {
	conn int
	cmd  *exec.Cmd
}

func startGuard(runDir string) (*guard, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(fds[1]), "guard")
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{guardName, runDir}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start the guard: %w", err), unix.Close(fds[0]))
	}
	return &guard{conn: fds[0], cmd: cmd}, nil
}

// HoldFD sends a copy of the task's descriptor.
func (g *guard) HoldFD(id int32, fd int) error { return g.send(opHold, id, unix.UnixRights(fd)) }

// DropFD has the copy closed.
func (g *guard) DropFD(id int32) error { return g.send(opDrop, id, nil) }

// dismiss ends the guard: the job's memory is complete, or the job is dead.
func (g *guard) dismiss() error {
	err := g.send(opDismiss, 0, nil)
	err = errors.Join(err, unix.Close(g.conn))
	if waitErr := g.cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("the guard: %w", waitErr))
	}
	return err
}

func (g *guard) send(op byte, id int32, rights []byte) error {
	msg := binary.NativeEndian.AppendUint32([]byte{op}, uint32(id))
	return linux.Retry(func() error { return unix.Sendmsg(g.conn, msg, rights, nil, 0) })
}

// guardMain runs a guard if the process was started as one, and does not return
// then.
func guardMain() {
	if os.Args[0] != guardName || len(os.Args) != 2 {
		return
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	if err := runGuard(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runGuard(runDir string) error {
	cfg, err := readConfig(runDir)
	if err != nil {
		return err
	}
	held := map[int32]int{}
	for {
		op, id, fd, err := receiveMessage()
		switch {
		case err != nil || op == 0: // the shim is gone without a word
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			return errors.Join(err, errors.New("the shim died while the job lacked memory; the job is ended"), cfg.Cgroup.Kill(ctx))
		case op == opDismiss:
			return nil
		case op == opHold:
			held[id] = fd
		case op == opDrop:
			if err := unix.Close(held[id]); err != nil {
				return err
			}
			delete(held, id)
		}
	}
}

// receiveMessage waits for one message; op 0 is the end.
func receiveMessage() (op byte, id int32, fd int, err error) {
	msg, oob := make([]byte, opSize), make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	err = linux.Retry(func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(guardFD, msg, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil || n == 0 {
		return 0, 0, -1, err
	}
	if n != opSize {
		return 0, 0, -1, fmt.Errorf("a message of %d bytes", n)
	}
	op, id, fd = msg[0], int32(binary.NativeEndian.Uint32(msg[1:])), -1
	if op != opHold {
		return op, id, fd, nil
	}
	rights, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(rights) != 1 {
		return 0, 0, -1, errors.Join(err, errors.New("no descriptor came along"))
	}
	fds, err := unix.ParseUnixRights(&rights[0])
	if err != nil || len(fds) != 1 {
		return 0, 0, -1, errors.Join(err, errors.New("no descriptor came along"))
	}
	return op, id, fds[0], nil
}
