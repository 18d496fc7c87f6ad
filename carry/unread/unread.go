package unread

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/namespaces/network/sockdiag"
	"github.com/migrate-hpc/migrate/osthread"
)

// Find says what waits at a socket in the network of the process with this PID.
func Find(pid int) (o *carry.Obstacle, err error) {
	err = osthread.Throwaway(func() error {
		if err := network.Enter(pid); err != nil {
			return err
		}
		for _, look := range []func() (*carry.Obstacle, error){connections, unixConnections, datagrams} {
			if o, err = look(); o != nil || err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the job's sockets: %w", err)
	}
	return o, nil
}

// connections finds TCP connections that wait for accept. CRIU refuses their listener (can_dump_inet_sk
// in its sk-inet.c).
func connections() (*carry.Obstacle, error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := sockdiag.Inet(family, unix.IPPROTO_TCP, sockdiag.Listening)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			if s.Unread > 0 {
				return waiting(fmt.Sprintf("%d TCP connections to port %d", s.Unread, s.Port), "ss -ltn"), nil
			}
		}
	}
	return nil, nil
}

// unixConnections finds those that CRIU does not make again: data was sent on them already, or the
// other end was closed (dump_one_unix_fd in its sk-unix.c), or is outside of the job's network.
func unixConnections() (*carry.Obstacle, error) {
	list, err := sockdiag.Unix()
	if err != nil {
		return nil, err
	}
	sent := map[uint32]uint32{}
	for _, s := range list {
		sent[s.Inode] = s.Sent
	}
	for _, s := range list {
		for _, client := range s.Clients {
			if n, known := sent[client]; client == 0 || !known || n > 0 {
				return waiting("a connection to a Unix socket, and data with it,", "ss -lx"), nil
			}
		}
	}
	return nil, nil
}

func waiting(what, show string) *carry.Obstacle {
	return &carry.Obstacle{
		Code:   "connection-waiting",
		Cause:  what + " wait for a program of the job to accept them, and cannot be saved before",
		Remedy: "have the program accept them, or end the clients; `migrate exec JOB " + show + "` shows the queue of each socket (Recv-Q)",
	}
}

// datagrams finds UDP datagrams. CRIU drops them.
func datagrams() (*carry.Obstacle, error) {
	for _, protocol := range []uint8{unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			list, err := sockdiag.Inet(family, protocol, sockdiag.AnyState)
			if err != nil {
				return nil, err
			}
			for _, s := range list {
				if s.Unread > 0 {
					return &carry.Obstacle{
						Code:   "datagram-waiting",
						Cause:  fmt.Sprintf("no program of the job has read the datagrams that arrived at UDP port %d, and they cannot be saved", s.Port),
						Remedy: "have the program read them, or close the socket; `migrate exec JOB ss -uan` shows the queue of each socket (Recv-Q)",
					}, nil
				}
			}
		}
	}
	return nil, nil
}
