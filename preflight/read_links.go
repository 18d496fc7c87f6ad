package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/namespaces/network/sockdiag"
	"github.com/migrate-hpc/migrate/osthread"
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

// unixSockets lists those of the network namespace of pid.
func unixSockets(pid int) (list []unixSocket, err error) {
	err = osthread.Throwaway(func() error {
		if err := network.Enter(pid); err != nil {
			return err
		}
		found, err := sockdiag.Unix()
		for _, s := range found {
			list = append(list, unixSocket{Ino: s.Inode, Peer: s.Peer})
		}
		return err
	})
	return list, err
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
	if len(found) > 0 && slices.ContainsFunc(tasks, hasDescriptors) {
		found = slices.DeleteFunc(found, func(l outsideLink) bool {
			_, own := peers[l.Peer]
			return own // CRIU carries it in the message
		})
	}
	return found
}

// hasDescriptors tells whether messages with descriptors wait at a Unix socket of a task. A socket that
// was made in the job's network and that nobody holds is in one of them.
func hasDescriptors(t task) bool {
	return slices.ContainsFunc(t.Opened, func(d descriptor) bool {
		if d.kind() != unix.S_IFSOCK {
			return false
		}
		info, err := procfs.ReadFields(fmt.Sprintf("/proc/%d/fdinfo/%d", t.Host, d.Number))
		count, ok := info["scm_fds"]
		return err == nil && ok && strings.TrimSpace(count) != "0"
	})
}
