package server

import (
	"testing"

	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestFindByNamePrefersTheJobThatLives(t *testing.T) {
	all := peers(t, "a", "b")
	a, b := all[0], all[1]
	named := func(r *job.Record) { r.Spec.Name = "sim" }
	moved := func(n int, to func(*job.Record)) job.Record {
		rec := nodetest.Known(t, b.Node, func(r *job.Record) { named(r); to(r) })
		gone := rec
		gone.Exit, gone.SavedIn = nil, ""
		gone.MovedTo = &job.Moved{Node: "b", Addr: b.Config.Listen}
		if err := a.Jobs.Create(gone); err != nil {
			t.Fatal(n, err)
		}
		return rec
	}
	ended := moved(1, func(r *job.Record) { r.Exit = &job.Exit{Code: 3} })
	saved := moved(2, func(r *job.Record) { r.SavedIn = "/saved" })
	forgotten := moved(3, func(*job.Record) {})
	if err := b.Jobs.Remove(forgotten.ID); err != nil {
		t.Fatal(err)
	}
	rec, err := a.find(testenv.Bounded(t), "sim", nodetest.Owner)
	if err != nil || rec.ID != saved.ID {
		t.Errorf("of those that are over the one that may go on is %s: %s, %v", saved.ID, rec.ID, err)
	}
	away := nodetest.Known(t, a.Node, func(r *job.Record) { named(r); r.MovedTo = &job.Moved{Node: "gone", Addr: "127.0.0.1:1"} })
	if rec, err := a.find(testenv.Bounded(t), "sim", nodetest.Owner); err != nil || rec.ID != away.ID {
		t.Errorf("nobody says that %s is over, and sim is %s, %v", away.ID, rec.ID, err)
	}
	if rec, err := a.Jobs.Get(ended.ID); err != nil || rec.Exit == nil || rec.Exit.Code != 3 || rec.MovedTo == nil {
		t.Errorf("how it ended is not written down: %+v, %v", rec, err)
	}
	for _, rec := range []job.Record{saved, away} {
		if rec, err := a.Jobs.Get(rec.ID); err != nil || rec.Exit != nil {
			t.Errorf("%+v, %v", rec, err)
		}
	}
}
