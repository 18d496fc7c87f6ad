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

func (s *jobServer) viewDamaged(ctx context.Context, e *job.RecordError) api.Job {
	v := api.Job{Record: s.DamagedRecord(e), Node: s.Config.Node, State: api.JobDamaged, Problem: e.Err.Error()}
	if st, err := s.Status(ctx, e.ID); err == nil {
		v.Init, v.Shim, v.Exit = st.Init, st.Shim, st.Exit
	}
	cg := cgroup.Cgroup{Dirs: v.Cgroup}
	if v.CgroupDir = cg.Dir(); cg.FreezerDir() == "" {
		v.CgroupDir = ""
	}
	v.Tasks, _ = node.CountTasks(v.Record) // what the kernel does not tell stays 0
	v.Memory = node.ResidentMemory(&cg)
	return v
}

// damagedError is the error of a request that needs the record.
func (s *jobServer) damagedError(ctx context.Context, e *job.RecordError) *api.Error {
	v := s.viewDamaged(ctx, e)
	where := "on " + s.Config.Node + ", not running"
	if v.Tasks > 0 {
		where = fmt.Sprintf("on %s, where %d of its processes run in %s", s.Config.Node, v.Tasks, v.CgroupDir)
	}
	return &api.Error{Code: api.CodeDamaged, Message: fmt.Sprintf("the record of job %s is damaged: %v; nothing was done", e.ID, e.Err), Where: where,
		Hint: fmt.Sprintf("`migrate kill %s` still reaches it; `migrate rm -f %s` ends it and forgets it, or the operator puts the file right", e.ID, e.ID)}
}

// inspectDamaged answers with what is known without the record.
func (s *jobServer) inspectDamaged(w http.ResponseWriter, r *http.Request, _ caller.Caller, e *job.RecordError) error {
	return httpjson.Reply(w, s.viewDamaged(r.Context(), e))
}

// signalDamaged signals the job by its shim, which needs no record.
func (s *jobServer) signalDamaged(w http.ResponseWriter, r *http.Request, c caller.Caller, e *job.RecordError) error {
	rec := s.DamagedRecord(e)
	if s.FrozenForMove(r.Context(), rec) {
		return s.damagedError(r.Context(), e)
	}
	var req api.SignalRequest
	if err := httpjson.Decode(r, &req); err != nil {
		return err
	}
	if req.Signal < 1 || req.Signal > 64 {
		return unknownSignal(req.Signal)
	}
	if err := s.CheckSignal(rec); err != nil {
		return err
	}
	err := s.signal(r.Context(), rec, syscall.Signal(req.Signal))
	if errors.Is(err, shim.ErrGone) {
		return s.damagedError(r.Context(), e)
	}
	return err
}

// removeDamaged ends the job and forgets it, with force.
func (s *jobServer) removeDamaged(w http.ResponseWriter, r *http.Request, _ caller.Caller, e *job.RecordError) error {
	if r.URL.Query().Get("force") != "true" {
		return s.damagedError(r.Context(), e)
	}
	rec := s.DamagedRecord(e)
	if err := s.checkEnd(rec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), endTime)
	defer cancel()
	if err := s.killDamaged(ctx, rec); err != nil {
		return err
	}
	if err := s.Fence.MarkLost(string(rec.ID)); err != nil { // the record may have named the node that the job went to
		return err
	}
	st, err := s.ShimOf(rec.ID).Status(ctx)
	if err := s.Jobs.Remove(rec.ID); err != nil { // its shim, which tries to write down the end, gives up then
		return err
	}
	if err == nil {
		node.AwaitProcess(ctx, st.Shim, shimTime)
	}
	if err := s.RemoveLeftovers(ctx, rec); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// killDamaged returns when no task of the job is left.
func (s *jobServer) killDamaged(ctx context.Context, rec job.Record) error {
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	if cg.FreezerDir() != "" {
		return cg.Kill(ctx)
	}
	for {
		st, err := s.ShimOf(rec.ID).Status(ctx)
		switch {
		case errors.Is(err, shim.ErrGone) || err == nil && st.State != shim.Running:
			return nil
		case err == nil:
			err = s.signal(ctx, rec, syscall.SIGKILL)
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
