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
	views := make([]api.Job, len(recs))
	fates := s.Copies.Fates(r.Context(), recs, fateTime)
	var all errgroup.Group
	all.SetLimit(manyViews)
	for i, rec := range recs {
		all.Go(func() error {
			views[i] = s.View(r.Context(), rec)
			if f := fates[rec.ID]; views[i].State == api.JobMoved && copies.Over(f.State) {
				views[i].State, views[i].Exit = f.State, f.Exit
			}
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

// fateTime is how long a list waits for the nodes that jobs have gone to. Jobs of a node that does
// not answer are shown as moved there.
const fateTime = time.Second

// manyViews is how many shims a list asks at a time: a silent one costs a second.
const manyViews = 16
