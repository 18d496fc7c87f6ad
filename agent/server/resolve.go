package server

import (
	"context"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/transfer"
)

// handleResolve shows the consequences of an operator's decision about a move, and with POST carries
// it out.
func (s *moveServer) handleResolve(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
	if !c.Root() || c.Peer != "" {
		return &api.Error{Code: api.CodeForbidden, Message: "only root decides about a move, on the node itself",
			Hint: "nothing was done; ask the operator, who finds out where the job is and types `migrate resolve` there"}
	}
	if r.URL.Query().Get("forget") == "true" {
		return s.handleForget(w, r)
	}
	rec, err := s.Resolver.Resolvable(r.PathValue("move"))
	if err != nil {
		return err
	}
	take := r.URL.Query().Get("take") == "true"
	plan, err := s.Resolver.PlanOf(r.Context(), rec, take)
	if err != nil {
		return err
	}
	if r.Method == http.MethodGet {
		if plan.Why, err = s.Resolver.Apart(r.Context(), rec, take); err != nil {
			return err
		}
		return httpjson.Reply(w, plan)
	}
	// Not the caller's context: a decision must not stop half way.
	ctx, cancel := context.WithTimeout(s.Life, transfer.ResolveTime)
	defer cancel()
	if err := s.Resolver.Resolve(ctx, rec, take); err != nil {
		return err
	}
	return httpjson.Reply(w, s.Resolver.Resolved(rec.Move, plan))
}
