package node_test

import (
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestViewOfAJobWithoutAShimIsLostUnlessItsRecordSaysMore(t *testing.T) {
	a := nodetest.New(t)
	for want, edit := range map[api.JobState]func(*job.Record){
		api.JobLost:   nil,
		api.JobExited: func(r *job.Record) { r.Exit = &job.Exit{CPU: time.Second} },
		api.JobMoved:  func(r *job.Record) { r.MovedTo = &job.Moved{Node: "there"} },
		api.JobSaved:  func(r *job.Record) { r.SavedIn = "/dir" },
	} {
		rec := nodetest.Known(t, a, edit)
		if v := a.View(testenv.Bounded(t), rec); v.State != want {
			t.Errorf("got %s, want %s", v.State, want)
		}
		rec.Exit, rec.MovedTo, rec.SavedIn = nil, nil, "" // as read just before it was written
		if v := a.View(testenv.Bounded(t), rec); v.State != want {
			t.Errorf("looked at too early: got %s, want %s", v.State, want)
		}
	}
}
