package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/netpolicy"
	"github.com/migrate-hpc/migrate/testenv"
)

// allow gives an agent rules for networks.
func (a *Server) allow(t *testing.T, flags ...string) {
	t.Helper()
	var err error
	if a.Config.Networks, err = netpolicy.Parse(flags); err != nil {
		t.Fatal(err)
	}
}

// bridged is a job of a plain user with an address of TEST-NET-3, which no node has.
func bridged(address string) job.Record {
	n := job.Network{Mode: "br0", Address: address, MAC: launch.NewMAC()}
	return job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"true"}, UID: 1000, GID: 1000, Network: n}}
}

func TestOneOfManyThatAskAtOnceGetsAnAddress(t *testing.T) {
	a := newAgent(t)
	a.allow(t, "br0=203.0.113.0/24")
	const many = 20
	var all sync.WaitGroup
	answers := make(chan error, many)
	for range many {
		all.Go(func() {
			rec := bridged("203.0.113.7/24")
			answers <- a.Launcher.Assign(rec, func() error { return a.Jobs.Create(rec) })
		})
	}
	all.Wait()
	close(answers)
	given := 0
	for err := range answers {
		if err == nil {
			given++
		} else if nodetest.CodeOf(err) != api.CodeRefused {
			t.Errorf("got %v", err)
		}
	}
	if given != 1 {
		t.Errorf("%d jobs have the address", given)
	}
}

// taking admits a job whose move is under way.
func (a *Server) taking(t *testing.T, rec job.Record) (l *target.Job, end func(handoff.State)) {
	t.Helper()
	move := handoff.Record{Move: handoff.NewMoveID(), Kind: handoff.KindMove, Job: string(rec.ID), Role: handoff.RoleTarget, State: handoff.StateReceiving, Peer: "there", Epoch: 1, BootID: a.Boot}
	if err := a.Journal.Append(move); err != nil {
		t.Fatal(err)
	}
	l = target.NewJob(a.Targets, string(move.Move), rec.ID)
	if err := errors.Join(os.MkdirAll(l.Dir(), 0o711), l.Admit(rec)); err != nil {
		t.Fatal(err)
	}
	return l, func(s handoff.State) {
		move.State = s
		if err := a.Journal.Append(move); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAJobThatArrivesHasItsAddressAlready(t *testing.T) {
	a := newAgent(t)
	a.allow(t, "br0=203.0.113.0/24")
	rec := bridged("203.0.113.7/24")
	rec.SavedIn, rec.Cgroup = "/a/checkpoint", map[string]string{"unified": "/sys/fs/cgroup/of/the/source"}
	l, end := a.taking(t, rec)
	if got, err := l.Record(); err != nil || got.Cgroup != nil {
		t.Errorf("the record is %+v (%v): the cgroup is one of the source's", got, err)
	}
	never := func() error {
		t.Error("the address is given away")
		return nil
	}
	restarted := node.New(a.Config)
	restarted.Paths, restarted.Jobs, restarted.Journal = a.Paths, a.Jobs, a.Journal
	next := New(transfer.New(restarted))
	for _, agent := range []*Server{a, next} {
		if err := agent.Launcher.Assign(bridged("203.0.113.7/24"), never); nodetest.CodeOf(err) != api.CodeRefused || !strings.Contains(err.Error(), string(rec.ID)) {
			t.Errorf("a second job: %v", err)
		}
	}
	end(handoff.StateDropped)
	if err := os.RemoveAll(l.Dir()); err != nil {
		t.Fatal(err)
	}
	given := false
	if err := a.Launcher.Assign(bridged("203.0.113.7/24"), func() error { given = true; return nil }); err != nil || !given {
		t.Errorf("when the move is over: %v", err)
	}
}

func TestAUserWithoutARuleIsToldWhichOneToAskFor(t *testing.T) {
	testenv.NeedRoot(t)
	a := newAgent(t)
	me := caller.Caller{UID: 4000000, GID: 4000000, Pid: os.Getpid()} // without a name
	run := func() (int, string) {
		s := bridged("203.0.113.7/24").Spec
		s.UID, s.GID = 0, 0 // the caller's, by the agent
		body, err := json.Marshal(api.RunRequest{Spec: s})
		if err != nil {
			t.Fatal(err)
		}
		w := answer(a, me, httptest.NewRequest("POST", "/v1/jobs", strings.NewReader(string(body))))
		return w.Code, w.Body.String()
	}
	for _, flags := range [][]string{nil, {"br0=203.0.113.8/32"}, {"br0=203.0.113.0/24@1001"}, {"br1=203.0.113.0/24"}} {
		a.allow(t, flags...)
		code, says := run()
		if code != http.StatusConflict || !strings.Contains(says, "--network br0=203.0.113.0/24@4000000") || !strings.Contains(says, caller.NotStarted) {
			t.Errorf("with %v: %d %s", flags, code, says)
		}
	}
	if left := testenv.Names(t, filepath.Dir(a.Jobs.Dir("x"))); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestABridgeThatIsNotThereIsNamedWithWhatMakesIt(t *testing.T) {
	err := launch.Probe(t.Context(), job.Network{Mode: "nobridge", Address: "203.0.113.7/24", MAC: launch.NewMAC()})
	var told *api.Error
	if !errors.As(err, &told) || told.Code != api.CodeRefused || !strings.Contains(told.Message, "nobridge") || !strings.Contains(told.Hint, "ip link add nobridge") {
		t.Errorf("%v", err)
	}
}
