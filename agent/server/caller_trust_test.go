package server

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
)

func TestACommandInAJobHasGroupsThatItsCallerStillHas(t *testing.T) {
	rec := job.Record{Spec: job.Spec{UID: 1000, GID: 100, Groups: []uint32{7, 8, 9}}}
	roots := job.Record{Spec: job.Spec{Groups: []uint32{0, 6}, UserNS: true}}
	for _, c := range []struct {
		who  caller.Caller
		rec  job.Record
		want []uint32
		code api.Code
	}{
		{caller.Caller{UID: 1000, GID: 100, Groups: []uint32{9, 8, 7}}, rec, []uint32{7, 8, 9}, ""},
		{caller.Caller{UID: 1000, GID: 100, Groups: []uint32{9, 10}}, rec, []uint32{9}, ""},
		{caller.Caller{UID: 1000, GID: 100}, rec, nil, ""},
		{caller.Caller{UID: 1000, GID: 8, Groups: []uint32{100}}, rec, []uint32{8}, ""}, // after newgrp
		{caller.Caller{UID: 1000, GID: 8, Groups: []uint32{7, 8, 9}}, rec, nil, api.CodeForbidden},
		{caller.Caller{}, rec, []uint32{7, 8, 9}, ""},
		{caller.Caller{}, roots, nil, ""}, // which its user namespace does not map
	} {
		got, err := c.who.GroupsIn(c.rec)
		if !slices.Equal(got, c.want) || (err == nil) != (c.code == "") || err != nil && nodetest.CodeOf(err) != c.code {
			t.Errorf("%+v: got %v %v, want %v %s", c.who, got, err, c.want, c.code)
		}
	}
}

func TestACallerThatHasEndedIsNotTakenForWhoHasItsNumberNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command("/proc/self/exe", callerRole, path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := caller.Credentials(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.LetGo()
	if c.Pid != cmd.Process.Pid {
		t.Errorf("process %d is taken for %d", cmd.Process.Pid, c.Pid)
	}
	if err := c.Alive(); err != nil {
		t.Error(err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Alive(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("got %v", err)
	}
	c.LetGo()
	if err := c.Alive(); err == nil {
		t.Error("who has hung up is taken to be there")
	}
}

func TestWhoHasEndedBeforeIsNoCaller(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := exec.Command("/proc/self/exe", callerRole, path).Run(); err != nil { // stdin is at its end
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if c, err := caller.Credentials(conn); err == nil { // newer kernels give a descriptor of it all the same
		if err := c.Alive(); err == nil {
			t.Errorf("process %d is taken for the caller", c.Pid)
		}
		c.LetGo()
	}
}

// callerRole makes the test binary a caller.
const callerRole = "agent-test-caller"

// playCaller connects and ends with its input.
func playCaller(path string) error {
	if _, err := net.Dial("unix", path); err != nil {
		return err
	}
	_, err := unix.Read(int(os.Stdin.Fd()), make([]byte, 1))
	return err
}

func TestAUserInMoreGroupsThanCanBeMappedIsToldSo(t *testing.T) {
	a := newAgent(t)
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{UID: 1000, GID: 1000, UserNS: true, Root: "/"}}
	for g := range uint32(1000) {
		rec.Spec.Groups = append(rec.Spec.Groups, 2*g)
	}
	if err := a.Launcher.Settle(&rec); err == nil || !strings.Contains(err.Error(), "1000 groups") || !strings.Contains(err.Error(), "without --user-ns") {
		t.Errorf("got %v", err)
	}
}

func TestARangeOfIDsHoldsNoneOfItsUsersOwn(t *testing.T) {
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{UserNS: true}}
	if err := newAgent(t).ChooseIDs(&rec); err != nil {
		t.Fatal(err)
	}
	first := rec.Spec.UIDBase
	for _, own := range []uint32{first, first + 5, first + job.IDRange - 1} {
		for _, s := range []job.Spec{{UID: own}, {GID: own}, {UID: 1000, GID: 1000, Groups: []uint32{7, own}}} {
			s.UserNS, rec.Spec = true, s
			if err := newAgent(t).ChooseIDs(&rec); err != nil || rec.Spec.UIDBase == first {
				t.Errorf("the range of %d is given to a user who has %d (%v)", rec.Spec.UIDBase, own, err)
			}
		}
	}
}
