package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/preflight"
)

func (s *jobServer) handleRun(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
	var req api.RunRequest
	if err := httpjson.Decode(r, &req); err != nil {
		return err
	}
	if c.Peer != "" {
		return &api.Error{Code: api.CodeForbidden, Message: "a job is started on its own node"}
	}
	if err := launch.CheckRequest(req.Spec); err != nil {
		return err
	}
	req.Spec.UID, req.Spec.GID, req.Spec.Groups = c.UID, c.GID, c.Groups
	if err := req.Spec.Validate(); err != nil {
		return &api.Error{Code: api.CodeUsage, Message: err.Error(), Hint: "see `migrate run --help`"}
	}
	if err := launch.CheckReachable(c, req.Spec); err != nil {
		return &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	if err := launch.CheckWorkDir(req.Spec); err != nil {
		return err
	}
	if err := launch.CheckBindTargets(c, req.Spec); err != nil {
		return err
	}
	err := launch.Inherit(&req.Spec, c)
	if err == nil {
		err = c.Alive()
	}
	if err != nil {
		e := httpjson.ErrorOf(err)
		e.Where = cmp.Or(e.Where, caller.NotStarted)
		return e
	}
	done, err := s.Launcher.Admit(req.Spec.UID)
	if err != nil {
		return err
	}
	defer done()
	rec := job.Record{ID: job.NewID(), Spec: req.Spec, Created: time.Now(), Foreground: req.Foreground}
	defer s.IDs.Release(string(rec.ID))
	if err := s.Launcher.FillIn(&rec); err != nil {
		e := httpjson.ErrorOf(err)
		e.Where = cmp.Or(e.Where, caller.NotStarted)
		return e
	}
	err = s.Launcher.Launch(r.Context(), rec, c)
	if refusal := (*api.Error)(nil); errors.As(err, &refusal) {
		refusal.Where = caller.NotStarted
		return refusal
	}
	if err != nil {
		return &api.Error{Code: api.CodeFailed, Message: err.Error(), Where: caller.NotStarted, Hint: "put right what the message names, and the same command again"}
	}
	if rec, err = s.Jobs.Get(rec.ID); err != nil {
		return err
	}
	v := s.View(r.Context(), rec)
	v.Obstacles = s.obstacles(rec.Spec)
	return httpjson.Reply(w, v)
}

// obstacles are what keeps such a job from leaving this node, whatever it does.
func (s *jobServer) obstacles(spec job.Spec) []api.Finding {
	findings, err := preflight.Standing(spec, s.CRIUPath)
	if err != nil {
		s.Log.Warn("whether jobs can leave this node is not known", logkey.Err, err)
	}
	return source.AsFindings(findings)
}

func (s *jobServer) replyJob(ctx context.Context, w http.ResponseWriter, id job.ID) error {
	rec, err := s.Jobs.Get(id)
	if err != nil {
		return err
	}
	return httpjson.Reply(w, s.View(ctx, rec))
}

func (s *jobServer) handleNode(w http.ResponseWriter, r *http.Request, _ caller.Caller) error {
	n := api.Node{Node: s.Config.Node, Version: s.Config.Version, CRIU: s.CRIUPath, Listen: s.Config.Listen}
	var err error
	if n.Kernel, err = node.KernelRelease(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	return httpjson.Reply(w, n)
}
