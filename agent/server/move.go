package server

import (
	"fmt"
	"io"
	"net/http"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
)

func (s *moveServer) handleMove(w http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
	var req api.MoveRequest
	if err := httpjson.Decode(r, &req); err != nil {
		return err
	}
	if req.Node == "" || req.Node == s.Config.Node {
		return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("job %s is on %s already", rec.ID, s.Config.Node), Where: "on " + s.Config.Node, Hint: "name another node: `migrate move JOB NODE`"}
	}
	if req.Eager && req.PostCopy {
		return &api.Error{Code: api.CodeUsage, Message: "eager restores all memory before the job runs, post_copy after", Where: "on " + s.Config.Node, Hint: "`migrate move --eager` or `migrate move --post-copy`, not both"}
	}
	if _, err := affinity.ParseMode(string(req.Affinity)); err != nil {
		return &api.Error{Code: api.CodeUsage, Message: err.Error(), Where: "on " + s.Config.Node, Hint: "`migrate move --affinity map`"}
	}
	return s.Transfers.Move(r.Context(), rec, req, func() io.Writer { return httpjson.Events(w) })
}
