package target

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// taking admits a job whose move is under way.
func (ts *Targets) taking(t *testing.T, rec job.Record) (l *Job, end func(handoff.State)) {
	t.Helper()
	move := handoff.Record{Move: handoff.NewMoveID(), Kind: handoff.KindMove, Job: string(rec.ID), Role: handoff.RoleTarget, State: handoff.StateReceiving, Peer: "there", Epoch: 1, BootID: ts.Boot}
	if err := ts.Journal.Append(move); err != nil {
		t.Fatal(err)
	}
	l = NewJob(ts, string(move.Move), rec.ID)
	if err := errors.Join(os.MkdirAll(l.Dir(), 0o711), l.ClaimAddress(rec)); err != nil {
		t.Fatal(err)
	}
	return l, func(s handoff.State) {
		move.State = s
		if err := ts.Journal.Append(move); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAddressOfAJobThatArrivesIsTaken(t *testing.T) {
	n := nodetest.New(t)
	a := New(n, &launch.Launcher{Node: n}, nil)
	nodetest.AllowNetworks(t, n, "br0=203.0.113.0/24")
	rec := nodetest.Bridged("203.0.113.7/24")
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
	for _, l := range []*launch.Launcher{a.Launcher, {Node: restarted}} {
		if err := l.ClaimAddress(nodetest.Bridged("203.0.113.7/24"), never); nodetest.CodeOf(err) != api.CodeRefused || !strings.Contains(err.Error(), string(rec.ID)) {
			t.Errorf("a second job: %v", err)
		}
	}
	end(handoff.StateDropped)
	if err := os.RemoveAll(l.Dir()); err != nil {
		t.Fatal(err)
	}
	given := false
	if err := a.Launcher.ClaimAddress(nodetest.Bridged("203.0.113.7/24"), func() error { given = true; return nil }); err != nil || !given {
		t.Errorf("when the move is over: %v", err)
	}
}
