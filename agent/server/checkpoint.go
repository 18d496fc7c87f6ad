package server

import (
	"fmt"
	"io"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
)

func (s *moveServer) handleCheckpoint(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
	var req api.CheckpointRequest
	if err := httpjson.Decode(r, &req); err != nil {
		return err
	}
	if c.Peer != "" {
		return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("job %s runs on %s, and a checkpoint is written where the job runs", rec.ID, s.Config.Node),
			Where: "on " + s.Config.Node, Hint: "type `migrate checkpoint` there, or move the job here first with `migrate move`"}
	}
	return s.Transfers.Checkpoint(r.Context(), c, rec, req, func() io.Writer { return httpjson.Events(w) })
}
