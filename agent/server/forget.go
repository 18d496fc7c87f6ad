package server

import (
	"fmt"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/logkey"
)

// handleForget shows the consequences of setting a damaged journal aside, and with POST does it.
func (s *moveServer) handleForget(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("move")
	d, err := s.Resolver.DamageOf(name)
	if err != nil {
		return err
	}
	plan := s.Resolver.ForgetPlan(r, d)
	if r.Method == http.MethodGet {
		return httpjson.Reply(w, plan)
	}
	s.Log.Warn("an operator sets a journal aside", logkey.Move, name, logkey.Job, d.Job, logkey.Err, d.Err)
	if plan.File, err = s.Journal.SetAside(name); err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("set the journal of %s aside: %v", name, err), Hint: "remove the cause, and the same command again"}
	}
	return httpjson.Reply(w, plan)
}
