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

// Caller is on whose behalf a request is made.
type Caller struct {
	UID, GID uint32
	Groups   []uint32
	Pid      int      // 0 when the request came from another node
	pidfd    *os.File // holds pid (pidfd); nil when the caller is not known by a connection
	Peer     string   // that node's name, "" for a local caller
}

// Alive fails when the caller has ended, so that what was found by its number meanwhile may
// be another's.
func (c Caller) Alive() error {
	if c.pidfd == nil {
		return nil
	}
	var err error
	raw, rawErr := c.pidfd.SyscallConn()
	if rawErr == nil {
		rawErr = raw.Control(func(fd uintptr) { err = linux.Alive(int(fd)) })
	}
	if rawErr != nil || errors.Is(err, unix.ESRCH) { // it has hung up, or is gone
		return &api.Error{Code: api.CodeFailed, Message: "whoever asked for this has ended", Where: NotStarted, Hint: "the same command again"}
	}
	return err
}

// openProcess takes hold of the process at the other end of a unix socket. Before Linux 6.5 the
// kernel gives its number only: then who has that now must at least be the same user's, and
// not be one with other rights.
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

// Close frees what hold has taken.
func (c Caller) Close() {
	if c.pidfd != nil {
		_ = c.pidfd.Close() // nothing was written
	}
}

// OwnerOf is the job's user, as if that were the caller.
func OwnerOf(s job.Spec) Caller { return Caller{UID: s.UID, GID: s.GID, Groups: s.Groups} }

func (c Caller) Root() bool { return c.UID == 0 }

func (c Caller) User() osthread.User { return osthread.User{UID: c.UID, GID: c.GID, Groups: c.Groups} }

// CanAccess tells whether the caller may see and touch a job.
func (c Caller) CanAccess(rec job.Record) bool { return c.Root() || c.UID == rec.Spec.UID }

// JobGroups are the supplementary groups of a job that the caller is still in: what a user's
// job was started with does not give back to its user what was taken since. Root has all.
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

// CheckGroups refuses to bring back a job with groups that its user is not in any more: a checkpoint
// keeps them for longer than any process of the user's.
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

type ContextKey struct{}

// The user that an agent speaks for towards a peer. Only nodes of the cluster
// get to say it.
const (
	UIDHeader    = "Migrate-UID"
	GIDHeader    = "Migrate-GID"
	GroupsHeader = "Migrate-Groups"
	HopsHeader   = "Migrate-Hops"
)

// FromPeer takes the word of an authenticated node for who asks.
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

func (c Caller) SetHeaders(h http.Header) {
	h.Set(UIDHeader, strconv.FormatUint(uint64(c.UID), 10))
	h.Set(GIDHeader, strconv.FormatUint(uint64(c.GID), 10))
	h.Set(GroupsHeader, strings.Trim(fmt.Sprint(c.Groups), "[]"))
}

func Forbidden() error {
	return &api.Error{Code: api.CodeForbidden, Message: "this is not your job"}
}

// As does something with the caller's own rights to files.
func As(c Caller, do func() error) error { return osthread.As(c.User(), do) }

// MaxHops ends a request that is passed round in circles.
const MaxHops = 16

// HopsOf is how often a request was passed on. Users can set it, so a number that no agent sends
// is as bad as the most.
func HopsOf(r *http.Request) int {
	hops, _ := strconv.Atoi(r.Header.Get(HopsHeader))
	if hops < 0 || hops > MaxHops {
		return MaxHops
	}
	return hops
}

// Credentials asks the kernel who is at the other end of a unix socket.
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
