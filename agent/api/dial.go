package api

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// dialAgent connects to a socket that root or the own user listens on. Another user who
// listens there would read requests for the agent, with the environment of jobs.
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
		_ = conn.Close() // nothing was sent
		return nil, err
	}
	return conn, nil
}

type notTheAgent uint32

func (uid notTheAgent) Error() string {
	return fmt.Sprintf("user %d listens there, and an agent is root's; nothing was asked", uint32(uid))
}

// listenerOf is the user who called listen on the other end.
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
		return 0, fmt.Errorf("user who listens on the socket: %w", err)
	}
	return cred.Uid, nil
}
