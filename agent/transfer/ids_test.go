package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/preflight"
)

// chosen has a job choose its ids, as one that is started.
func (a *Transfers) chosen(t testing.TB, id job.ID) job.Record {
	t.Helper()
	rec := job.Record{ID: id, Spec: job.Spec{Args: []string{"true"}, UID: 1000, UserNS: true}, Created: time.Now()}
	if err := a.ChooseIDs(&rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

func (a *Transfers) taken(t testing.TB, rec job.Record) bool {
	t.Helper()
	m := handoff.NewMoveID()
	rec.ID = job.NewID()
	findings, err := a.ReserveIDs(m, rec)
	if err != nil {
		t.Fatal(err)
	}
	a.IDs.Release(string(m))
	if len(findings) > 0 && (findings[0].Code != preflight.UIDRangeTaken || findings[0].Remedy == "") {
		t.Errorf("the finding is %+v", findings)
	}
	return len(findings) > 0
}

func TestIDsAreAJobsAloneFromItsLaunchToItsEnd(t *testing.T) {
	a := New(nodetest.New(t))
	rec := a.chosen(t, job.NewID())
	edit := func(change func(*job.Record)) {
		t.Helper()
		if _, err := a.Jobs.Update(rec.ID, func(r *job.Record) error { change(r); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	rec.Cgroup = map[string]string{cgroup.Unified: t.TempDir()}
	tasks := filepath.Join(rec.Cgroup[cgroup.Unified], "cgroup.procs")
	for _, step := range []struct {
		name  string
		do    func() error
		taken bool
	}{
		{"while it is being started", func() error { return nil }, true},
		{"when it has its record", func() error { return a.Jobs.Create(rec) }, true},
		{"when it has started", func() error { a.IDs.Release(string(rec.ID)); return nil }, true},
		{"while its frozen copy is here", func() error {
			edit(func(r *job.Record) { r.MovedTo = &job.Moved{Node: "there"} })
			return os.WriteFile(tasks, []byte("4711\n4712\n"), 0o600)
		}, true},
		{"when that is killed", func() error { return os.WriteFile(tasks, nil, 0o600) }, false},
		{"when it has left", func() error { return os.Remove(tasks) }, false},
		{"when it has come back", func() error { edit(func(r *job.Record) { r.MovedTo = nil }); return nil }, true},
		{"when it is over", func() error { edit(func(r *job.Record) { r.Exit = &job.Exit{} }); return nil }, false},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := a.taken(t, rec); got != step.taken {
			t.Errorf("%s its ids are taken: %t", step.name, got)
		}
	}
}

func TestIDsOfAJobThatArrivesAreItsAlone(t *testing.T) {
	a := New(nodetest.New(t))
	rec, m := a.chosen(t, job.NewID()), handoff.NewMoveID()
	a.IDs.Release(string(rec.ID))
	if findings, err := a.ReserveIDs(m, rec); len(findings) > 0 || err != nil {
		t.Fatal(findings, err)
	}
	if !a.taken(t, rec) {
		t.Error("another job may have them while it is received")
	}
	l := target.NewJob(a.Targets, string(m), rec.ID)
	if err := errors.Join(os.MkdirAll(l.Dir(), 0o700), l.SaveRecord(rec)); err != nil {
		t.Fatal(err)
	}
	a.Arrivals.forget(m)
	if !a.taken(t, rec) {
		t.Error("another job may have them while it is parked, after a restart of the agent")
	}
	if err := os.RemoveAll(l.Dir()); err != nil {
		t.Fatal(err)
	}
	if a.taken(t, rec) {
		t.Error("nobody may have them when it was dropped")
	}
}

// All at once, as many as there can be: launches and arrivals of jobs whose names lead to the
// same range.
func TestIDsAreGivenOnce(t *testing.T) {
	a := New(nodetest.New(t))
	first := a.chosen(t, job.NewID())
	var all sync.WaitGroup
	var mu sync.Mutex
	var got []job.Record
	for range 32 {
		all.Go(func() {
			rec := job.Record{ID: job.NewID(), Spec: first.Spec}
			mine, err := a.ReserveIDs(handoff.NewMoveID(), rec)
			if err != nil || len(mine) == 0 {
				t.Errorf("the ids of a job that is started are given to one that arrives: %v", err)
			}
			if err := a.ChooseIDs(&rec); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, rec)
		})
	}
	all.Wait()
	for i, x := range got {
		for _, y := range append(got[:i:i], first) {
			if x.Spec.SharesIDs(y.Spec) {
				t.Errorf("%s and %s have %d and %d", x.ID, y.ID, x.Spec.UIDBase, y.Spec.UIDBase)
			}
		}
	}
	again := job.Record{ID: first.ID, Spec: first.Spec}
	if err := a.ChooseIDs(&again); err != nil || again.Spec.UIDBase != first.Spec.UIDBase {
		t.Errorf("the same job gets %d, and had %d (%v)", again.Spec.UIDBase, first.Spec.UIDBase, err)
	}
}

func TestAnyIDsMayBeTheIDsOfAJobThatCannotBeRead(t *testing.T) {
	for name, path := range map[string]func(*Transfers) string{
		"here":     func(a *Transfers) string { return filepath.Join(a.Jobs.Dir(job.NewID()), "record.json") },
		"arriving": func(a *Transfers) string { return target.NewJob(a.Targets, "m1", "").RecordPath() },
	} {
		a := New(nodetest.New(t))
		p := path(a)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte("{"), 0o600)); err != nil {
			t.Fatal(err)
		}
		rec := job.Record{ID: job.NewID(), Spec: job.Spec{UserNS: true, UIDBase: job.FirstBase}}
		if err := a.ChooseIDs(&rec); err == nil {
			t.Errorf("%s: a launch gets %d", name, rec.Spec.UIDBase)
		}
		if _, err := a.ReserveIDs("m2", job.Record{ID: job.NewID(), Spec: job.Spec{UserNS: true, UIDBase: job.FirstBase}}); err == nil {
			t.Errorf("%s: an arrival keeps its ids", name)
		}
		rec.Spec.UserNS = false
		if _, err := a.ReserveIDs("m2", rec); err != nil {
			t.Errorf("%s: a job without a user namespace: %v", name, err)
		}
	}
}

func TestAnOfferOfIDsThatAreNoJobsIsRefused(t *testing.T) {
	good := peer.Offer{Move: handoff.NewMoveID(), Epoch: 1, Port: 7707, Record: job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"x"}, UserNS: true, UIDBase: job.FirstBase}}}
	if err := CheckOffer(good); err != nil {
		t.Fatal(err)
	}
	for _, base := range []uint32{0, 1000, job.IDRange, job.FirstBase + 1, job.FirstBase - job.IDRange, job.EndBase, 1<<32 - job.IDRange} {
		bad := good
		bad.Record.Spec.UIDBase = base
		if err := CheckOffer(bad); err == nil {
			t.Errorf("%d is taken", base)
		}
	}
}

// What is restored is what preflight has seen.
func TestAJobThatIsNotTheOneOfferedIsRefused(t *testing.T) {
	a := New(nodetest.New(t))
	offered := job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"x"}, UID: 1000, Env: []string{"A=b"}}, Mounts: []job.Bind{{Source: "/srv", Target: "/srv"}}}
	l := target.NewJob(a.Targets, string(handoff.NewMoveID()), offered.ID)
	l.Offered = &offered
	if err := os.MkdirAll(l.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	back := func(r job.Record) (again job.Record) { // as it comes over the wire
		data, err := json.Marshal(r)
		if err = errors.Join(err, json.Unmarshal(data, &again)); err != nil {
			t.Fatal(err)
		}
		return again
	}
	o := back(offered)
	l.Offered = &o
	if err := l.SetRecord(back(offered), false); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*job.Record){
		"another user":    func(r *job.Record) { r.Spec.UID = 0 },
		"other ids":       func(r *job.Record) { r.Spec.UserNS, r.Spec.UIDBase = true, job.FirstBase },
		"another root":    func(r *job.Record) { r.Spec.Root = "/root" },
		"a bind":          func(r *job.Record) { r.Spec.Binds = []job.Bind{{Source: "/root", Target: "/mnt"}} },
		"a node's mount":  func(r *job.Record) { r.Mounts = []job.Bind{{Source: "/root", Target: "/srv"}} },
		"another address": func(r *job.Record) { r.Spec.Network = job.Network{Mode: "br0", Address: "10.0.0.1/24"} },
		"another job":     func(r *job.Record) { r.ID = job.NewID() },
	} {
		r := back(offered)
		change(&r)
		if err := l.SetRecord(r, false); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if got, err := l.Record(); err != nil || fmt.Sprint(got.Spec) != fmt.Sprint(offered.Spec) {
		t.Errorf("what is to be restored is %+v (%v)", got, err)
	}
}
