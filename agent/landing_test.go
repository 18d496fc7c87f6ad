package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/shim"
)

// arriving is a landing whose copy has been received here.
func (a *Agent) arriving(t *testing.T) *landing {
	t.Helper()
	l := newLanding(a, string(handoff.NewMoveID()), job.NewID())
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.in.Store.Close(); err != nil {
			t.Error(err)
		}
	})
	rec := job.Record{ID: l.job, Spec: job.Spec{Args: []string{"true"}, UID: 1000, GID: 1000}}
	for _, err := range []error{l.expect(rec, false), os.WriteFile(filepath.Join(l.dir(), shim.LogName), []byte("log"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestWhatAnAgentLeftOfAnArrivalIsSettledByTheNext(t *testing.T) {
	a := newAgent(t)
	l := a.arriving(t)
	stayed := os.WriteFile(filepath.Join(l.ioDir(), "stdout"), []byte("said"), 0o600)
	// The job is published, its output has its place, and the agent dies.
	moved := errors.Join(l.publish(), os.MkdirAll(l.dir(), 0o711), os.WriteFile(filepath.Join(l.dir(), shim.LogName), []byte("more log"), 0o600))
	if err := errors.Join(stayed, moved, l.publish()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of the arrival is left %v (%v)", names(t, l.dir()), err)
	}
	for path, want := range map[string]string{filepath.Join(a.ioDir(l.job), "stdout"): "said", filepath.Join(filepath.Dir(a.ioDir(l.job)), shim.LogName): "more log"} {
		if got, err := os.ReadFile(path); string(got) != want {
			t.Errorf("%s holds %q (%v)", path, got, err)
		}
	}
}

func TestARecordThatCannotBeReadProvesNothingAboutACopy(t *testing.T) {
	a := newAgent(t)
	l := a.arriving(t)
	if err := l.StillParked(testenv.Bounded(t)); !errors.Is(err, handoff.ErrGone) {
		t.Fatalf("without a shim or a record: %v", err)
	}
	if err := l.publish(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.jobs.Dir(l.job), "record.json"), []byte("{"), 0o600); err != nil {
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
	a := newAgent(t)
	m, id := handoff.NewMoveID(), job.NewID()
	rec := handoff.Record{Move: m, Kind: handoff.KindMove, Job: string(id), Role: handoff.RoleTarget, Peer: "there", BootID: a.boot}
	a.journalled(t, rec, handoff.StateReceiving)
	dir := a.paths.move(string(m))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil { // so it cannot be removed
		t.Fatal(err)
	}
	a.recover(a.life)
	testenv.Eventually(t, func() bool { // it has tried, and goes on
		rec, err := a.journal.Get(m)
		return err == nil && rec.State == handoff.StateReceiving && a.arrivalOf(m) != nil
	})
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, func() bool {
		rec, err := a.journal.Get(m)
		return err == nil && rec.State == handoff.StateDropped && a.arrivalOf(m) == nil
	})
}

func TestACheckpointThatLeavesTheJobRunningLeavesNothingWhenItsAgentDies(t *testing.T) {
	a := newAgent(t)
	path := filepath.Join(t.TempDir(), "saved")
	d, err := newDirectory(path, "m1", operator)
	if err != nil {
		t.Fatal(err)
	}
	id := d.id
	d.close()
	s := &saving{a: a, recovering: true, dir: &directory{path: path, move: "m1", id: id}, req: api.CheckpointRequest{LeaveRunning: true}}
	if err := s.Abort(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, filepath.Dir(path)); len(got) > 0 {
		t.Errorf("half a checkpoint is left: %v", got)
	}
}
