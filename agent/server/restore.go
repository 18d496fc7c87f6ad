package server

import (
	"cmp"
	"io"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/timens"
)

func (s *moveServer) handleRestore(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
	var req api.RestoreRequest
	if err := httpjson.Decode(r, &req); err != nil {
		return err
	}
	if c.Peer != "" {
		return &api.Error{Code: api.CodeUsage, Message: "a job is restored by the agent of the node where it is to run", Hint: "type `migrate restore` there"}
	}
	if err := transfer.CheckDead(req.DeclaredDead, c); err != nil {
		return err
	}
	mode, err := timens.ParseMode(cmp.Or(req.Clock, timens.Continuous.String()))
	if err != nil {
		return &api.Error{Code: api.CodeUsage, Message: err.Error(), Hint: "`migrate restore --clock continuous` or `migrate restore --clock elapsed`"}
	}
	return s.Transfers.Restore(r.Context(), c, req, mode, func() io.Writer { return httpjson.Events(w) })
}
