package uffd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// The protocol of criu restore with lazy_pages (criu/uffd.c, version 4.2). Per task it is
// an int32 vpid, then one byte that carries the userfaultfd. For a zombie it is only the
// negative vpid. The number below comes last, when the tasks are let go.
const (
	socketName      = "lazy-pages.socket"
	restoreFinished = 0x52535446
	// maxPID is the kernel's PID_MAX_LIMIT.
	maxPID = 1 << 22
)

// hello is one message of CRIU.
type hello struct {
	vpid     stream.VPID
	pid      int // in our pid namespace; 0 if the kernel did not say
	fd       int
	zombie   bool
	finished bool
}

// criuConn is CRIU's end of a restore.
type criuConn struct{ *net.UnixConn }

// listen makes the socket in dir. It goes through the directory's descriptor,
// because a socket's path may have no more than 107 bytes.
func listen(dir string) (*net.UnixListener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(path, 0o600), passCredentials(l)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// passCredentials makes the kernel add its sender's pid to every message.
func passCredentials(l *net.UnixListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var opt error
	err = raw.Control(func(fd uintptr) { opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	return errors.Join(err, opt)
}

// accept waits for CRIU, which runs as the same user as we do.
func accept(ctx context.Context, l *net.UnixListener) (criuConn, error) {
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return criuConn{}, fmt.Errorf("wait for CRIU: %w", errors.Join(context.Cause(ctx), err))
		}
		uid, err := peerUID(conn)
		if err == nil && uid == os.Geteuid() {
			return criuConn{conn}, nil
		}
		if err := errors.Join(err, conn.Close()); err != nil {
			return criuConn{}, fmt.Errorf("wait for CRIU: %w", err)
		}
	}
}

func peerUID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var opt error
	err = raw.Control(func(fd uintptr) { cred, opt = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, opt); err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}

// next reads one message. io.EOF means that CRIU closed the connection between
// two messages.
func (c criuConn) next() (hello, error) {
	var b [4]byte
	pid, fds, err := c.read(b[:])
	closeAll(fds)
	if err == nil && len(fds) > 0 {
		err = errors.New("a descriptor where a pid belongs")
	}
	if err != nil {
		return hello{}, err
	}
	n := int32(binary.NativeEndian.Uint32(b[:]))
	switch {
	case n == restoreFinished:
		return hello{finished: true}, nil
	case n < 0 && n >= -maxPID:
		return hello{vpid: stream.VPID(-n), zombie: true}, nil
	case n == 0 || n > maxPID || n < -maxPID:
		return hello{}, fmt.Errorf("number %#x where a pid belongs", uint32(n))
	}
	_, fds, err = c.read(b[:1])
	if err == nil && len(fds) != 1 {
		err = fmt.Errorf("%d descriptors for task %d", len(fds), n)
	}
	if err != nil {
		closeAll(fds)
		return hello{}, noEOF(err)
	}
	return hello{vpid: stream.VPID(n), pid: pid, fd: fds[0]}, nil
}

// read fills b and returns the sender's pid and the descriptors that came.
func (c criuConn) read(b []byte) (pid int, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*16))
	for got := 0; got < len(b); {
		n, oobn, flags, _, err := c.ReadMsgUnix(b[got:], oob)
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			if got > 0 {
				err = noEOF(err)
			}
			return pid, fds, err
		}
		got += n
		p, f, err := parseControl(oob[:oobn])
		pid, fds = max(pid, p), append(fds, f...)
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = errors.New("descriptors were cut off")
		}
		if err == nil && len(fds) > 0 && got < len(b) {
			err = errors.New("a descriptor inside a number")
		}
		if err != nil {
			return pid, fds, err
		}
	}
	return pid, fds, nil
}

func parseControl(oob []byte) (pid int, fds []int, err error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, nil, err
	}
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			pid = int(cred.Pid)
		}
		if f, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, f...)
		}
	}
	return pid, fds, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
