package caller

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/transport"
)

// Caller is the user on whose behalf a request is made.
type Caller struct {
	UID, GID uint32
	Groups   []uint32
	Pid      int      // 0 when the request came from another node
	pidfd    *os.File // a pidfd of Pid; nil for a caller that no connection has named
	Peer     string   // that node's name, "" for a local caller
}

// Alive fails when the caller has ended: what was read from /proc by its pid meanwhile may
// belong to another process.
func (c Caller) Alive() error {
	if c.pidfd == nil {
		return nil
	}
	var err error
	raw, rawErr := c.pidfd.SyscallConn()
	if rawErr == nil {
		rawErr = raw.Control(func(fd uintptr) { err = linux.Alive(int(fd)) })
	}
	if rawErr != nil || errors.Is(err, unix.ESRCH) { // the connection is closed, or the process has ended
		return &api.Error{Code: api.CodeFailed, Message: "whoever asked for this has ended", Where: NotStarted, Hint: "the same command again"}
	}
	return err
}

// openProcess opens a pidfd of the process at the other end of a unix socket. Before Linux 6.5
// the kernel gives the pid only; the process that has it now must then be the same user's.
func (c *Caller) openProcess(socket int) error {
	fd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == nil {
		c.pidfd = os.NewFile(uintptr(fd), "caller")
		return nil
	}
	if !errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("process of the caller: %w", err)
	}
	if fd, err = unix.PidfdOpen(c.Pid, 0); err != nil {
		return fmt.Errorf("process %d of the caller: %w", c.Pid, err)
	}
	c.pidfd = os.NewFile(uintptr(fd), "caller")
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", c.Pid), &st); err != nil || st.Uid != c.UID {
		return errors.Join(fmt.Errorf("process %d is not the caller's any more", c.Pid), err)
	}
	return nil
}

// Close closes the pidfd. A second call changes nothing that matters.
func (c Caller) Close() {
	if c.pidfd != nil {
		_ = c.pidfd.Close() // nothing was written
	}
}

// OwnerOf is the caller that the user of a job would be.
func OwnerOf(s job.Spec) Caller { return Caller{UID: s.UID, GID: s.GID, Groups: s.Groups} }

// Root tells whether the caller is root.
func (c Caller) Root() bool { return c.UID == 0 }

// User is the caller as a thread takes on its identity.
func (c Caller) User() osthread.User { return osthread.User{UID: c.UID, GID: c.GID, Groups: c.Groups} }

// CanAccess tells whether the caller may see and change a job: root and its user may.
func (c Caller) CanAccess(rec job.Record) bool { return c.Root() || c.UID == rec.Spec.UID }

// JobGroups are the supplementary groups of a job that the caller is still in. A job must not
// give its user a group back that the user has lost since. Root has all of them.
// It fails with api.CodeForbidden for a caller that has left the job's primary group.
func (c Caller) JobGroups(rec job.Record) ([]uint32, error) {
	if c.Root() {
		return SupplementaryGroups(rec.Spec), nil
	}
	has := func(group uint32) bool { return group == c.GID || slices.Contains(c.Groups, group) }
	if !has(rec.Spec.GID) {
		return nil, &api.Error{Code: api.CodeForbidden, Message: fmt.Sprintf("job %s runs with the primary group %d, which you are not in any more", rec.ID, rec.Spec.GID), Where: "nothing was done",
			Hint: "`newgrp` or a new login, if you are again; else have root run `migrate exec " + string(rec.ID) + "`, or start the job anew"}
	}
	return slices.DeleteFunc(slices.Clone(SupplementaryGroups(rec.Spec)), func(g uint32) bool { return !has(g) }), nil
}

// CheckGroups refuses to restore a job with groups that the caller is not in any more: a
// checkpoint keeps them for longer than any process of the user.
func (c Caller) CheckGroups(rec job.Record) error {
	if c.Root() {
		return nil
	}
	for _, g := range append([]uint32{rec.Spec.GID}, SupplementaryGroups(rec.Spec)...) {
		if g != c.GID && !slices.Contains(c.Groups, g) {
			return &api.Error{Code: api.CodeForbidden, Message: fmt.Sprintf("job %s was saved with the group %d, which you are not in any more", rec.ID, g), Where: "nothing was done",
				Hint: "log in anew if you are in it again; otherwise root decides, and types `migrate restore`"}
		}
	}
	return nil
}

// ContextKey is the key of the Caller in the context of a connection.
type ContextKey struct{}

// Headers with which an agent names, to a peer, the user that it speaks for. They count only on
// a connection with the certificate of a node.
const (
	UIDHeader    = "Migrate-UID"
	GIDHeader    = "Migrate-GID"
	GroupsHeader = "Migrate-Groups"
	HopsHeader   = "Migrate-Hops"
)

// FromPeer is the caller that an authenticated node names in its headers.
func FromPeer(r *http.Request) (Caller, error) {
	node, err := transport.PeerOf(r)
	if err != nil {
		return Caller{}, err
	}
	uid, err1 := strconv.ParseUint(r.Header.Get(UIDHeader), 10, 32)
	gid, err2 := strconv.ParseUint(r.Header.Get(GIDHeader), 10, 32)
	if err1 != nil || err2 != nil {
		return Caller{}, fmt.Errorf("node %s does not say for whom it asks", node)
	}
	c := Caller{UID: uint32(uid), GID: uint32(gid), Peer: node}
	for _, f := range strings.Fields(r.Header.Get(GroupsHeader)) {
		g, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return Caller{}, err
		}
		c.Groups = append(c.Groups, uint32(g))
	}
	return c, nil
}

// SetHeaders names the caller in the headers of a request to a peer.
func (c Caller) SetHeaders(h http.Header) {
	h.Set(UIDHeader, strconv.FormatUint(uint64(c.UID), 10))
	h.Set(GIDHeader, strconv.FormatUint(uint64(c.GID), 10))
	h.Set(GroupsHeader, strings.Trim(fmt.Sprint(c.Groups), "[]"))
}

// Forbidden is the refusal of a request about the job of another user.
func Forbidden() error {
	return &api.Error{Code: api.CodeForbidden, Message: "this is not your job"}
}

// As runs do with the caller's own rights to files.
func As(c Caller, do func() error) error { return osthread.As(c.User(), do) }

// MaxHops bounds how often agents forward a request, so that a circle of them ends.
const MaxHops = 16

// HopsOf is how often a request was forwarded. Users can set the header, so a number that no agent
// sends counts as MaxHops.
func HopsOf(r *http.Request) int {
	hops, _ := strconv.Atoi(r.Header.Get(HopsHeader))
	if hops < 0 || hops > MaxHops {
		return MaxHops
	}
	return hops
}

// Credentials asks the kernel for the process at the other end of a unix socket. The caller must
// be closed.
func Credentials(conn net.Conn) (c Caller, err error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return c, fmt.Errorf("%T has no credentials", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return c, err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		c = Caller{UID: cred.Uid, GID: cred.Gid, Pid: int(cred.Pid)}
		if c.Groups, err = peerGroups(int(fd)); err == nil {
			err = c.openProcess(int(fd))
		}
	})
	if err == nil {
		err = ctlErr
	}
	if err != nil {
		c.Close()
	}
	return c, err
}
