package api

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// dialAgent connects to a socket of root's, or of our own user's. Whoever else made one would
// get what is for the agent: a job's environment, and what it is to do.
func dialAgent(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	owner, err := listenerOf(conn.(*net.UnixConn))
	if err == nil && owner != 0 && int64(owner) != int64(os.Geteuid()) {
		err = notTheAgent(owner)
	}
	if err != nil {
		_ = conn.Close() // nothing was said
		return nil, err
	}
	return conn, nil
}

type notTheAgent uint32

func (uid notTheAgent) Error() string {
	return fmt.Sprintf("user %d listens there, and an agent is root's; nothing was asked", uint32(uid))
}

// listenerOf is the user who was at the other end when it began to listen.
func listenerOf(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	asked := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err == nil {
		err = asked
	}
	if err != nil {
		return 0, fmt.Errorf("who listens: %w", err)
	}
	return cred.Uid, nil
}
