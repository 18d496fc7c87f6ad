package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// readLinks finds the Unix sockets that lead out of the job. Sockets come and go while descriptors
// are read. So only a connection that leads out twice counts.
func readLinks(ctx context.Context, j *jobFacts, initPID int) ([]outsideLink, error) {
	sockets, err := unixSocketsOf(j.Tasks, initPID)
	if err != nil {
		return nil, fmt.Errorf("unix sockets of the job: %w", err)
	}
	first := outsideLinks(j.Tasks, sockets)
	if len(first) == 0 {
		return nil, nil
	}
	entries, err := pidmap.InNamespace(initPID)
	if err != nil {
		return nil, err
	}
	tasks, err := readTasks(ctx, entries, j.view, initPID)
	if err != nil {
		return nil, err
	}
	if sockets, err = unixSocketsOf(tasks, initPID); err != nil {
		return nil, fmt.Errorf("unix sockets of the job: %w", err)
	}
	second := outsideLinks(tasks, sockets)
	return slices.DeleteFunc(first, func(l outsideLink) bool {
		return !slices.ContainsFunc(second, func(m outsideLink) bool { return l.unixSocket == m.unixSocket })
	}), nil
}

// unixSocketsOf lists those of all network namespaces that the job has.
func unixSocketsOf(tasks []task, initPID int) ([]unixSocket, error) {
	all, err := unixSockets(initPID)
	seen := map[string]bool{"": true}
	for _, t := range tasks {
		if t.Host == initPID {
			seen[t.space("net")] = true
		}
	}
	for _, t := range tasks {
		if err != nil {
			return nil, err
		}
		if seen[t.space("net")] {
			continue
		}
		seen[t.space("net")] = true
		var more []unixSocket
		if more, err = unixSockets(t.Host); procfs.IsGone(err) {
			err = nil
		}
		all = append(all, more...)
	}
	return all, err
}

// unixSockets lists those of the network namespace of pid, by sock_diag(7).
func unixSockets(pid int) ([]unixSocket, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	found, err := h.UnixSocketDiagInfo()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	var list []unixSocket
	for _, s := range found {
		u := unixSocket{Ino: s.DiagMsg.INode}
		if s.Peer != nil {
			u.Peer = *s.Peer
		}
		list = append(list, u)
	}
	return list, nil
}

// outsideLinks finds those whose other end is in another process of the node: a directory service,
// a desktop, a logger.
func outsideLinks(tasks []task, sockets []unixSocket) []outsideLink {
	peers := map[uint32]uint32{}
	for _, s := range sockets {
		peers[s.Ino] = s.Peer
	}
	held := map[uint32]bool{}
	for _, t := range tasks {
		for _, d := range t.Opened {
			held[uint32(d.Ino)] = held[uint32(d.Ino)] || d.kind() == unix.S_IFSOCK
		}
	}
	var found []outsideLink
	for _, t := range tasks {
		for _, d := range t.Opened {
			s := unixSocket{uint32(d.Ino), peers[uint32(d.Ino)]}
			if d.kind() == unix.S_IFSOCK && s.Peer != 0 && !held[s.Peer] {
				found = append(found, outsideLink{s, t.String(), d.Number})
			}
		}
	}
	return found
}
