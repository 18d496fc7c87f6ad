package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

func (s *jobServer) handleSignal(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return &api.Error{Code: api.CodeUsage, Message: "the request did not arrive: " + err.Error()}
	}
	var req api.SignalRequest
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err := httpjson.Decode(r, &req); err != nil {
		return err
	}
	if req.Signal < 1 || req.Signal > 64 {
		return unknownSignal(req.Signal)
	}
	if err := s.CheckSignal(rec); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body)) // for the node that the job moves to
	return s.whenRunning(func(_ http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
		err := s.signal(r.Context(), rec, syscall.Signal(req.Signal))
		if errors.Is(err, shim.ErrGone) {
			return s.signalLost(r.Context(), rec, syscall.Signal(req.Signal))
		}
		return err
	}, true)(w, r, c, rec)
}

func unknownSignal(n int) error {
	return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("there is no signal %d", n)}
}

// signal sends a signal by the shim, within node.SharedLockTime. It fails with shim.ErrGone if the
// job has ended.
func (s *jobServer) signal(ctx context.Context, rec job.Record, sig syscall.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, node.SharedLockTime)
	defer cancel()
	if asleep := s.Sources.CheckNotSuspended(rec); asleep != nil {
		if _, err := s.Status(ctx, rec.ID); errors.Is(err, context.DeadlineExceeded) { // its shim is suspended, too
			if sig == syscall.SIGKILL {
				return (&cgroup.Cgroup{Dirs: rec.Cgroup}).SendKill()
			}
			return asleep
		}
	}
	err := s.ShimOf(rec.ID).Signal(ctx, sig)
	if err == nil && sig == syscall.SIGKILL {
		if err := s.EndSuspended(ctx, rec); err != nil {
			s.Log.Info("a job that was killed ends later", logkey.Job, rec.ID, logkey.Err, err)
		}
	}
	switch {
	case err == nil || errors.Is(err, shim.ErrGone):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("the shim of job %s has not answered within %v; nobody knows whether the signal was sent", rec.ID, node.SharedLockTime),
			Where: "on " + s.Config.Node, Hint: "the same command again"}
	}
	if st, asked := s.ShimOf(rec.ID).Status(ctx); errors.Is(asked, shim.ErrGone) || asked == nil && st.State == shim.Exited {
		return shim.ErrGone // about to end: the shim records the exit
	}
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("the signal was not sent: %v", err), Where: "on " + s.Config.Node,
		Hint: "`migrate inspect " + string(rec.ID) + "` tells how the job stands; the same command again when it runs"}
}

// signalLost sends SIGKILL to the tasks of a job without a shim. Other signals fail.
func (s *jobServer) signalLost(ctx context.Context, rec job.Record, sig syscall.Signal) error {
	v := s.View(ctx, rec)
	if v.State != api.JobAstray || sig != syscall.SIGKILL {
		return s.NotRunning(ctx, rec)
	}
	if err := s.CheckSignal(rec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, node.SharedLockTime)
	defer cancel()
	if err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).Kill(ctx); err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s: %v", rec.ID, err), Where: "on " + s.Config.Node, Hint: "the same command again; a task may wait for a file server that does not answer"}
	}
	return nil
}
