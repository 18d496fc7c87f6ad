package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/testenv"
)

// arriving is a landing whose copy has been received here.
func (a *Transfers) arriving(t *testing.T) *target.Job {
	t.Helper()
	l := target.NewJob(a.Targets, string(handoff.NewMoveID()), job.NewID())
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Receiver.Store.Close(); err != nil {
			t.Error(err)
		}
	})
	rec := job.Record{ID: l.ID, Spec: job.Spec{Args: []string{"true"}, UID: 1000, GID: 1000}}
	for _, err := range []error{l.SetRecord(rec, false), os.WriteFile(filepath.Join(l.Dir(), shim.LogName), []byte("log"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestWhatAnAgentLeftOfAnArrivalIsSettledByTheNext(t *testing.T) {
	a := New(nodetest.New(t))
	l := a.arriving(t)
	stayed := os.WriteFile(filepath.Join(l.IODir(), "stdout"), []byte("said"), 0o600)
	// The job is published, its output has its place, and the agent dies.
	moved := errors.Join(l.Publish(), os.MkdirAll(l.Dir(), 0o711), os.WriteFile(filepath.Join(l.Dir(), shim.LogName), []byte("more log"), 0o600))
	if err := errors.Join(stayed, moved, l.Publish()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of the arrival is left %v (%v)", testenv.Names(t, l.Dir()), err)
	}
	for path, want := range map[string]string{filepath.Join(a.IODir(l.ID), "stdout"): "said", filepath.Join(filepath.Dir(a.IODir(l.ID)), shim.LogName): "more log"} {
		if got, err := os.ReadFile(path); string(got) != want {
			t.Errorf("%s holds %q (%v)", path, got, err)
		}
	}
}

func TestARecordThatCannotBeReadProvesNothingAboutACopy(t *testing.T) {
	a := New(nodetest.New(t))
	l := a.arriving(t)
	if err := l.StillParked(testenv.Bounded(t)); !errors.Is(err, handoff.ErrGone) {
		t.Fatalf("without a shim or a record: %v", err)
	}
	if err := l.Publish(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.Jobs.Dir(l.ID), "record.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.StillParked(testenv.Bounded(t)); err == nil || errors.Is(err, handoff.ErrGone) || errors.Is(err, handoff.ErrRuns) {
		t.Errorf("with a damaged record: %v", err)
	}
	if err := l.Resume(testenv.Bounded(t)); err == nil || errors.Is(err, handoff.ErrGone) {
		t.Errorf("resume with a damaged record: %v", err)
	}
}

func TestAMoveThatAnAgentCannotUndoWhenItStartsIsUndoneLater(t *testing.T) {
	testenv.NeedRoot(t)
	a := New(nodetest.New(t))
	m, id := handoff.NewMoveID(), job.NewID()
	rec := handoff.Record{Move: m, Kind: handoff.KindMove, Job: string(id), Role: handoff.RoleTarget, Peer: "there", BootID: a.Boot}
	nodetest.Journalled(t, a.Node, rec, handoff.StateReceiving)
	dir := a.Paths.Move(string(m))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil { // so it cannot be removed
		t.Fatal(err)
	}
	a.Recovery.Recover(a.Life)
	testenv.Eventually(t, func() bool { // it has tried, and goes on
		rec, err := a.Journal.Get(m)
		return err == nil && rec.State == handoff.StateReceiving && a.Arrivals.ArrivalOf(m) != nil
	})
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, func() bool {
		rec, err := a.Journal.Get(m)
		return err == nil && rec.State == handoff.StateDropped && a.Arrivals.ArrivalOf(m) == nil
	})
}

func TestACheckpointThatLeavesTheJobRunningLeavesNothingWhenItsAgentDies(t *testing.T) {
	a := New(nodetest.New(t))
	path := filepath.Join(t.TempDir(), "saved")
	draft, err := a.Store.Create(path, "m1", nodetest.Operator.User())
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Discard()
	ref, err := draft.Ref()
	if err != nil {
		t.Fatal(err)
	}
	s := a.checkpointAgain(handoff.Record{Move: "m1"}, job.Record{}, node.Saving{Checkpoint: ref, LeaveRunning: true})
	if err := s.Abort(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := testenv.Names(t, filepath.Dir(path)); len(got) > 0 {
		t.Errorf("half a checkpoint is left: %v", got)
	}
}

func TestAMoveTriedAgainDoesNotMeetItsPredecessor(t *testing.T) {
	testenv.NeedRoot(t)
	a := New(nodetest.New(t))
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"true"}, UID: 1000, GID: 1000}}
	move := handoff.NewMoveID()
	l := target.NewJob(a.Targets, string(move), rec.ID)
	arr := &Arrival{landing: l, half: a.Arrivals.engine().NewTarget(handoff.Record{Move: move, Kind: handoff.KindMove, Job: string(rec.ID), Peer: "source", BootID: a.Boot, Epoch: 1}, l)}
	for _, step := range []func() error{func() error { return arr.half.Begin(a.Life) }, l.Open, func() error { return l.ClaimAddress(rec) }} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	a.Arrivals.know(arr)
	arrives := func(from string) bool {
		t.Helper()
		findings, err := a.Arrivals.examineOffer(a.Life, from, peer.Offer{Record: rec})
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(findings, func(f preflight.Finding) bool { return f.Code == preflight.JobHere })
	}
	if !arrives("another") || arr.half.State() != handoff.StateReceiving {
		t.Errorf("another node's offer ended the move, which is %s", arr.half.State())
	}
	if arrives("source") || arr.half.State() != handoff.StateDropped {
		t.Errorf("the move that the source gave up is %s", arr.half.State())
	}
}
