package server

import (
	"context"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

func (a *jobServer) handleList(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
	recs, broken, err := a.Jobs.ListAll()
	if err != nil {
		return err
	}
	recs = slices.DeleteFunc(recs, func(rec job.Record) bool { return !c.May(rec) })
	views := make([]api.Job, len(recs))
	fates := a.Copies.Fates(r.Context(), recs, fateTime)
	var all errgroup.Group
	all.SetLimit(manyViews)
	for i, rec := range recs {
		all.Go(func() error {
			views[i] = a.View(r.Context(), rec)
			if f := fates[rec.ID]; views[i].State == api.JobMoved && copies.Over(f.State) {
				views[i].State, views[i].Exit = f.State, f.Exit
			}
			return nil
		})
	}
	_ = all.Wait() // none fails
	for _, b := range broken {
		a.Log.Error("the record of a job cannot be read", logkey.Job, b.ID, logkey.Err, b.Err)
		if v := a.viewBroken(r.Context(), b); c.May(v.Record) {
			views = append(views, v)
		}
	}
	return httpjson.Reply(w, views)
}

// fateTime is how long a list waits for the nodes that jobs have gone to; those of a node that does
// not answer are shown as moved there.
const fateTime = time.Second

// manyViews is how many shims a list asks at a time: one that does not answer costs a
// second.
const manyViews = 16

func (a *jobServer) handleInspect(w http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
	v := a.View(r.Context(), rec)
	if v.Init == 0 {
		return httpjson.Reply(w, v)
	}
	// What the kernel does not tell, because the job ends just now, stays empty.
	v.Namespaces, _ = namespaces.Of(v.Init)
	v.Pids, _ = pidmap.InNamespace(v.Init)
	v.Clocks = node.ClocksOf(v.Init)
	v.Caught = caughtBy(v.Init)
	return httpjson.Reply(w, v)
}

// caughtBy is the mask of signals that a process handles or blocks; PID 1 of a
// pid namespace gets no others but SIGKILL and SIGSTOP.
func caughtBy(pid int) *uint64 {
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return nil
	}
	mask, err := status.Handled()
	if err != nil {
		return nil
	}
	return &mask
}

// handleWait answers when the job has ended or left, or after a while, so that a
// broken connection does not go unnoticed for long.
func (a *jobServer) handleWait(w http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
	if err := a.untilOver(r.Context(), rec.ID, 20*time.Second); err != nil {
		return err
	}
	return a.replyJob(r.Context(), w, rec.ID)
}

// untilOver returns when the job is no longer here, ctx ends or the time is up.
func (a *jobServer) untilOver(ctx context.Context, id job.ID, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for ctx.Err() == nil {
		rec, err := a.Jobs.Get(id)
		if err != nil || !rec.Here() {
			return err
		}
		if st, err := a.ShimOf(id).Status(ctx); node.Gone(rec, err) {
			return nil
		} else if err == nil && st.Shim > 0 {
			node.AwaitProcess(ctx, st.Shim, most)
		} else {
			time.Sleep(httpjson.BusyPause)
		}
	}
	return nil
}
