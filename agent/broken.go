package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

// broken is a job whose record cannot be read, with what else tells of it: its user's
// output files, the shim's directory, the kernel.
func (a *Agent) broken(e *job.RecordError) job.Record {
	rec := job.Record{ID: e.ID, Epoch: 1} // for all that is known a move has been tried
	if info, err := os.Lstat(filepath.Join(a.ioDir(e.ID), "stdout")); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			rec.Spec.UID, rec.Spec.GID = st.Uid, st.Gid
		}
	}
	if info, err := os.Lstat(a.jobs.Dir(e.ID)); err == nil {
		rec.Created = info.ModTime()
	}
	if cg, err := shim.CgroupOf(a.paths.jobRun(e.ID)); err == nil {
		rec.Cgroup = cg.Dirs
	} else if cg, err := namespaces.FindCgroup(a.cgroupName(e.ID)); err == nil { // RUN is lost, too
		rec.Cgroup = cg.Dirs
	}
	return rec
}

func (a *Agent) viewBroken(ctx context.Context, e *job.RecordError) api.Job {
	v := api.Job{Record: a.broken(e), Node: a.cfg.Node, State: api.JobDamaged, Problem: e.Err.Error()}
	if st, err := a.status(ctx, e.ID); err == nil {
		v.Init, v.Shim, v.Exit = st.Init, st.Shim, st.Exit
	}
	cg := namespaces.Cgroup{Dirs: v.Cgroup}
	if v.CgroupDir = cg.Dir(); cg.FreezerDir() == "" {
		v.CgroupDir = ""
	}
	v.Tasks, _ = tasksOf(v.Record) // what the kernel does not tell stays 0
	v.Memory = residentMemory(&cg)
	return v
}

// cannotRead is the answer to what nobody can do without the record.
func (a *Agent) cannotRead(ctx context.Context, e *job.RecordError) *api.Error {
	v := a.viewBroken(ctx, e)
	where := "on " + a.cfg.Node + ", not running"
	if v.Tasks > 0 {
		where = fmt.Sprintf("on %s, where %d of its processes run in %s", a.cfg.Node, v.Tasks, v.CgroupDir)
	}
	return &api.Error{Code: api.CodeDamaged, Message: fmt.Sprintf("the record of job %s is damaged: %v; nothing was done", e.ID, e.Err), Where: where,
		Hint: fmt.Sprintf("`migrate kill %s` still reaches it; `migrate rm -f %s` ends it and forgets it, or the operator puts the file right", e.ID, e.ID)}
}

// brokenHandler is a request about a job whose record cannot be read.
type brokenHandler func(w http.ResponseWriter, r *http.Request, c caller, e *job.RecordError) error

// inspectBroken tells what there is to tell.
func (a *Agent) inspectBroken(w http.ResponseWriter, r *http.Request, _ caller, e *job.RecordError) error {
	return reply(w, a.viewBroken(r.Context(), e))
}

// signalBroken reaches the job by its shim, which needs no record.
func (a *Agent) signalBroken(w http.ResponseWriter, r *http.Request, c caller, e *job.RecordError) error {
	rec := a.broken(e)
	if a.standsStill(r.Context(), rec) {
		return a.cannotRead(r.Context(), e)
	}
	var req api.SignalRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.Signal < 1 || req.Signal > 64 {
		return noSignal(req.Signal)
	}
	if err := a.maySignal(rec); err != nil {
		return err
	}
	err := a.signal(r.Context(), rec, syscall.Signal(req.Signal))
	if errors.Is(err, shim.ErrGone) {
		return a.cannotRead(r.Context(), e)
	}
	return err
}

// removeBroken ends the job and forgets it, if its user insists.
func (a *Agent) removeBroken(w http.ResponseWriter, r *http.Request, _ caller, e *job.RecordError) error {
	if r.URL.Query().Get("force") != "true" {
		return a.cannotRead(r.Context(), e)
	}
	rec := a.broken(e)
	if err := a.mayEnd(rec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), endTime)
	defer cancel()
	if err := a.killBroken(ctx, rec); err != nil {
		return err
	}
	if err := a.fence.Lose(string(rec.ID)); err != nil { // it may have said where the job went
		return err
	}
	st, err := a.shimOf(rec.ID).Status(ctx)
	if err := a.jobs.Remove(rec.ID); err != nil { // its shim, which tries to write down the end, gives up then
		return err
	}
	if err == nil {
		awaitProcess(ctx, st.Shim, shimTime)
	}
	if err := a.sweep(ctx, rec); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// killBroken returns when no task of the job is left.
func (a *Agent) killBroken(ctx context.Context, rec job.Record) error {
	cg := namespaces.Cgroup{Dirs: rec.Cgroup}
	if cg.FreezerDir() != "" {
		return cg.Kill(ctx)
	}
	for {
		st, err := a.shimOf(rec.ID).Status(ctx)
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
		case <-time.After(busyPause):
		}
	}
}
