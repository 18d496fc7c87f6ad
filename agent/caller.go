package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/thread"
	"github.com/migrate-hpc/migrate/transport"
)

// caller is on whose behalf a request is made.
type caller struct {
	uid, gid uint32
	groups   []uint32
	pid      int    // 0 when the request came from another node
	peer     string // that node's name, "" for a local caller
}

// ownerOf is the job's user, as if that were the caller.
func ownerOf(s job.Spec) caller { return caller{uid: s.UID, gid: s.GID, groups: s.Groups} }

func (c caller) root() bool { return c.uid == 0 }

func (c caller) user() thread.User { return thread.User{UID: c.uid, GID: c.gid, Groups: c.groups} }

// may tells whether the caller may see and touch a job.
func (c caller) may(rec job.Record) bool { return c.root() || c.uid == rec.Spec.UID }

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
		c.groups, err = peerGroups(int(fd))
	})
	if err == nil {
		err = ctlErr
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
	return &api.Error{Code: api.Forbidden, Message: "this is not your job"}
}
