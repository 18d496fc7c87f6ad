package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

func (a *jobServer) viewBroken(ctx context.Context, e *job.RecordError) api.Job {
	v := api.Job{Record: a.Broken(e), Node: a.Config.Node, State: api.JobDamaged, Problem: e.Err.Error()}
	if st, err := a.Status(ctx, e.ID); err == nil {
		v.Init, v.Shim, v.Exit = st.Init, st.Shim, st.Exit
	}
	cg := cgroup.Cgroup{Dirs: v.Cgroup}
	if v.CgroupDir = cg.Dir(); cg.FreezerDir() == "" {
		v.CgroupDir = ""
	}
	v.Tasks, _ = node.TasksOf(v.Record) // what the kernel does not tell stays 0
	v.Memory = node.ResidentMemory(&cg)
	return v
}

// cannotRead is the answer to what nobody can do without the record.
func (a *jobServer) cannotRead(ctx context.Context, e *job.RecordError) *api.Error {
	v := a.viewBroken(ctx, e)
	where := "on " + a.Config.Node + ", not running"
	if v.Tasks > 0 {
		where = fmt.Sprintf("on %s, where %d of its processes run in %s", a.Config.Node, v.Tasks, v.CgroupDir)
	}
	return &api.Error{Code: api.CodeDamaged, Message: fmt.Sprintf("the record of job %s is damaged: %v; nothing was done", e.ID, e.Err), Where: where,
		Hint: fmt.Sprintf("`migrate kill %s` still reaches it; `migrate rm -f %s` ends it and forgets it, or the operator puts the file right", e.ID, e.ID)}
}

// inspectBroken tells what there is to tell.
func (a *jobServer) inspectBroken(w http.ResponseWriter, r *http.Request, _ caller.Caller, e *job.RecordError) error {
	return httpjson.Reply(w, a.viewBroken(r.Context(), e))
}

// signalBroken reaches the job by its shim, which needs no record.
func (a *jobServer) signalBroken(w http.ResponseWriter, r *http.Request, c caller.Caller, e *job.RecordError) error {
	rec := a.Broken(e)
	if a.StandsStill(r.Context(), rec) {
		return a.cannotRead(r.Context(), e)
	}
	var req api.SignalRequest
	if err := httpjson.Decode(r, &req); err != nil {
		return err
	}
	if req.Signal < 1 || req.Signal > 64 {
		return noSignal(req.Signal)
	}
	if err := a.MaySignal(rec); err != nil {
		return err
	}
	err := a.signal(r.Context(), rec, syscall.Signal(req.Signal))
	if errors.Is(err, shim.ErrGone) {
		return a.cannotRead(r.Context(), e)
	}
	return err
}

// removeBroken ends the job and forgets it, if its user insists.
func (a *jobServer) removeBroken(w http.ResponseWriter, r *http.Request, _ caller.Caller, e *job.RecordError) error {
	if r.URL.Query().Get("force") != "true" {
		return a.cannotRead(r.Context(), e)
	}
	rec := a.Broken(e)
	if err := a.mayEnd(rec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), endTime)
	defer cancel()
	if err := a.killBroken(ctx, rec); err != nil {
		return err
	}
	if err := a.Fence.Lose(string(rec.ID)); err != nil { // it may have said where the job went
		return err
	}
	st, err := a.ShimOf(rec.ID).Status(ctx)
	if err := a.Jobs.Remove(rec.ID); err != nil { // its shim, which tries to write down the end, gives up then
		return err
	}
	if err == nil {
		node.AwaitProcess(ctx, st.Shim, shimTime)
	}
	if err := a.Sweep(ctx, rec); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// killBroken returns when no task of the job is left.
func (a *jobServer) killBroken(ctx context.Context, rec job.Record) error {
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	if cg.FreezerDir() != "" {
		return cg.Kill(ctx)
	}
	for {
		st, err := a.ShimOf(rec.ID).Status(ctx)
		switch {
		case errors.Is(err, shim.ErrGone) || err == nil && st.State != shim.Running:
			return nil
		case err == nil:
			err = a.signal(ctx, rec, syscall.SIGKILL)
		}
		if err != nil && !errors.Is(err, shim.ErrGone) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(httpjson.BusyPause):
		}
	}
}
