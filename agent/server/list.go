package server

import (
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
)

func (s *jobServer) handleList(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
	recs, broken, err := s.Jobs.ListAll()
	if err != nil {
		return err
	}
	recs = slices.DeleteFunc(recs, func(rec job.Record) bool { return !c.CanAccess(rec) })
	fates := s.Copies.Fates(r.Context(), recs, fateTime)
	recs = slices.DeleteFunc(recs, func(rec job.Record) bool { return fates[rec.ID].Forgotten() })
	views := make([]api.Job, len(recs))
	var all errgroup.Group
	all.SetLimit(manyViews)
	for i, rec := range recs {
		all.Go(func() error {
			views[i] = s.View(r.Context(), rec)
			views[i] = asFar(views[i], fates[rec.ID])
			return nil
		})
	}
	_ = all.Wait() // none fails
	for _, b := range broken {
		s.Log.Error("the record of a job cannot be read", logkey.Job, b.ID, logkey.Err, b.Err)
		if v := s.viewDamaged(r.Context(), b); c.CanAccess(v.Record) {
			views = append(views, v)
		}
	}
	return httpjson.Reply(w, views)
}

// asFar is a job that has left, with what is known of it elsewhere.
func asFar(v api.Job, f copies.Fate) api.Job {
	if f.State == "" || v.State != api.JobMoved && v.State != api.JobSaved {
		return v
	}
	at := f.At
	v.MovedTo, v.State = &at, api.JobMoved
	if copies.Over(f.State) {
		v.State, v.Exit = f.State, f.Exit
	}
	return v
}

// fateTime is how long a list waits for the nodes that jobs have gone to. Jobs of a node that does
// not answer are shown as moved there. Tests wait longer: a busy machine is no node that is down.
var fateTime = time.Second

// manyViews is how many shims a list asks at a time: a silent one costs a second.
const manyViews = 16
