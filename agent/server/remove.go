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
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/shim"
)

// handleRemove forgets a job that has ended, and removes all that it left here.
func (s *jobServer) handleRemove(w http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
	force := r.URL.Query().Get("force") == "true"
	v := s.View(r.Context(), rec)
	if v.State == api.JobAstray {
		if !force {
			return node.Astray(v)
		}
		if err := s.checkEnd(rec); err != nil {
			return err
		}
	}
	if v.State == api.JobRunning || v.State == api.JobFrozen || v.State == api.JobSuspended || v.State == api.JobArriving {
		if !force {
			return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is %s", rec.ID, v.State), Where: "on " + s.Config.Node,
				Hint: fmt.Sprintf("end it with `migrate kill %s`, or do both with `migrate rm -f %s`", rec.ID, rec.ID)}
		}
		if err := s.kill(r.Context(), rec); err != nil {
			return err
		}
	}
	if v.State == api.JobLost || v.State == api.JobAstray {
		if err := s.RemoveLeftovers(r.Context(), rec); err != nil {
			return err
		}
	}
	leaving, cancel := context.WithTimeout(r.Context(), shimTime)
	defer cancel()
	if st, err := s.ShimOf(rec.ID).Status(leaving); err == nil && (st.State == shim.Exited || st.State == shim.Running) {
		node.AwaitProcess(leaving, st.Shim, shimTime)
	}
	if err := s.Launcher.SealOutput(rec.ID); err != nil {
		return err
	}
	if err := s.Jobs.Remove(rec.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// shimTime is how long the shim of a job that has ended may take to exit.
const shimTime = 10 * time.Second

// checkEnd refuses to end a copy in an unfinished or damaged move: it may not be the job.
func (s *jobServer) checkEnd(rec job.Record) error {
	if s.Leaving.IsLeaving(rec.ID) || s.UnfinishedRole(rec.ID) != "" {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is in a move that is not finished; nothing was done", rec.ID),
			Where: "on " + s.Config.Node + ", or on the other node of the move", Hint: "cancel the move or wait for its end; `migrate moves` tells what it waits for"}
	}
	return s.CheckSignal(rec)
}

// kill kills a job and waits until its shim has recorded the end.
func (s *jobServer) kill(ctx context.Context, rec job.Record) error {
	if err := s.checkEnd(rec); err != nil {
		return err
	}
	err := s.signal(ctx, rec, syscall.SIGKILL)
	if err != nil && !errors.Is(err, shim.ErrGone) {
		return err
	}
	if err := s.EndSuspended(ctx, rec); err != nil {
		return err
	}
	if err := s.awaitEnd(ctx, rec.ID, endTime); err != nil {
		return err
	}
	if s.stillRuns(ctx, rec.ID) {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s has not ended within %v of SIGKILL; a task of it may wait for a file server that does not answer", rec.ID, endTime),
			Where: "on " + s.Config.Node, Hint: "the same command again, when it has"}
	}
	return nil
}

// stillRuns tells whether a job has not ended. Its shim first writes the record of the end, and then
// answers with it.
func (s *jobServer) stillRuns(ctx context.Context, id job.ID) bool {
	st, err := s.Status(ctx, id)
	if errors.Is(err, shim.ErrGone) || err == nil && st.State != shim.Running { // a busy shim proves nothing
		return false
	}
	rec, err := s.Jobs.Get(id)
	return err != nil || rec.Here()
}

// endTime is how long a killed job may take to end.
const endTime = 30 * time.Second
