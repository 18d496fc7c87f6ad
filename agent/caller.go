package agent

import (
	"context"
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
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/transport"
)

// caller is on whose behalf a request is made.
type caller struct {
	uid, gid uint32
	groups   []uint32
	pid      int      // 0 when the request came from another node
	process  *os.File // holds pid (pidfd); nil when the caller is not known by a connection
	peer     string   // that node's name, "" for a local caller
}

// alive fails when the caller has ended, so that what was found by its number meanwhile may
// be another's.
func (c caller) alive() error {
	if c.process == nil {
		return nil
	}
	n, err := 0, error(unix.EINTR)
	raw, rawErr := c.process.SyscallConn()
	if rawErr == nil {
		rawErr = raw.Control(func(fd uintptr) {
			for errors.Is(err, unix.EINTR) {
				n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			}
		})
	}
	if rawErr != nil || err == nil && n > 0 { // it has hung up, or is gone
		return &api.Error{Code: api.CodeFailed, Message: "whoever asked for this has ended", Where: notStarted, Hint: "the same command again"}
	}
	return err
}

// hold takes hold of the process at the other end of a unix socket. Before Linux 6.5 the
// kernel gives its number only: then who has that now must at least be the same user's, and
// not be one with other rights.
func (c *caller) hold(socket int) error {
	fd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == nil {
		c.process = os.NewFile(uintptr(fd), "caller")
		return nil
	}
	if !errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("process of the caller: %w", err)
	}
	if fd, err = unix.PidfdOpen(c.pid, 0); err != nil {
		return fmt.Errorf("process %d of the caller: %w", c.pid, err)
	}
	c.process = os.NewFile(uintptr(fd), "caller")
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", c.pid), &st); err != nil || st.Uid != c.uid {
		return errors.Join(fmt.Errorf("process %d is not the caller's any more", c.pid), err)
	}
	return nil
}

// letGo frees what hold has taken.
func (c caller) letGo() {
	if c.process != nil {
		_ = c.process.Close() // nothing was written
	}
}

// ownerOf is the job's user, as if that were the caller.
func ownerOf(s job.Spec) caller { return caller{uid: s.UID, gid: s.GID, groups: s.Groups} }

func (c caller) root() bool { return c.uid == 0 }

func (c caller) user() osthread.User { return osthread.User{UID: c.uid, GID: c.gid, Groups: c.groups} }

// may tells whether the caller may see and touch a job.
func (c caller) may(rec job.Record) bool { return c.root() || c.uid == rec.Spec.UID }

// groupsIn are the supplementary groups of a job that the caller is still in: what a user's
// job was started with does not give back to its user what was taken since. Root has all.
func (c caller) groupsIn(rec job.Record) ([]uint32, error) {
	if c.root() {
		return groupsInside(rec.Spec), nil
	}
	has := func(group uint32) bool { return group == c.gid || slices.Contains(c.groups, group) }
	if !has(rec.Spec.GID) {
		return nil, &api.Error{Code: api.CodeForbidden, Message: fmt.Sprintf("job %s runs with the primary group %d, which you are not in any more", rec.ID, rec.Spec.GID), Where: "nothing was done",
			Hint: "`newgrp` or a new login, if you are again; else have root run `migrate exec " + string(rec.ID) + "`, or start the job anew"}
	}
	return slices.DeleteFunc(slices.Clone(groupsInside(rec.Spec)), func(g uint32) bool { return !has(g) }), nil
}

// stillIn refuses to bring back a job with groups that its user is not in any more: a checkpoint
// keeps them for longer than any process of the user's.
func (c caller) stillIn(rec job.Record) error {
	if c.root() {
		return nil
	}
	for _, g := range append([]uint32{rec.Spec.GID}, groupsInside(rec.Spec)...) {
		if g != c.gid && !slices.Contains(c.groups, g) {
			return &api.Error{Code: api.CodeForbidden, Message: fmt.Sprintf("job %s was saved with the group %d, which you are not in any more", rec.ID, g), Where: "nothing was done",
				Hint: "log in anew if you are in it again; otherwise root decides, and types `migrate restore`"}
		}
	}
	return nil
}

type callerKey struct{}

// localCaller says on whose behalf requests on a connection are made. A request without
// a caller is refused.
func localCaller(ctx context.Context, conn net.Conn) context.Context {
	if g, ok := conn.(*guest); ok {
		return context.WithValue(ctx, callerKey{}, g.who)
	}
	return ctx
}

// credentials asks the kernel who is at the other end of a unix socket.
func credentials(conn net.Conn) (c caller, err error) {
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
		c = caller{uid: cred.Uid, gid: cred.Gid, pid: int(cred.Pid)}
		if c.groups, err = peerGroups(int(fd)); err == nil {
			err = c.hold(int(fd))
		}
	})
	if err == nil {
		err = ctlErr
	}
	if err != nil {
		c.letGo()
	}
	return c, err
}

// The user that an agent speaks for towards a peer. Only nodes of the cluster
// get to say it.
const (
	uidHeader    = "Migrate-Uid"
	gidHeader    = "Migrate-Gid"
	groupsHeader = "Migrate-Groups"
	hopsHeader   = "Migrate-Hops"
)

// peerCaller takes the word of an authenticated node for who asks.
func peerCaller(r *http.Request) (caller, error) {
	node, err := transport.PeerOf(r)
	if err != nil {
		return caller{}, err
	}
	uid, err1 := strconv.ParseUint(r.Header.Get(uidHeader), 10, 32)
	gid, err2 := strconv.ParseUint(r.Header.Get(gidHeader), 10, 32)
	if err1 != nil || err2 != nil {
		return caller{}, fmt.Errorf("node %s does not say for whom it asks", node)
	}
	c := caller{uid: uint32(uid), gid: uint32(gid), peer: node}
	for _, f := range strings.Fields(r.Header.Get(groupsHeader)) {
		g, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return caller{}, err
		}
		c.groups = append(c.groups, uint32(g))
	}
	return c, nil
}

func (c caller) speakFor(h http.Header) {
	h.Set(uidHeader, strconv.FormatUint(uint64(c.uid), 10))
	h.Set(gidHeader, strconv.FormatUint(uint64(c.gid), 10))
	h.Set(groupsHeader, strings.Trim(fmt.Sprint(c.groups), "[]"))
}

func forbidden() error {
	return &api.Error{Code: api.CodeForbidden, Message: "this is not your job"}
}
