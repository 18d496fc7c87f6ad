package server

import (
	"context"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
)

// handleWait answers when the job has ended or left, or after a while: so a broken connection shows
// soon.
func (s *jobServer) handleWait(w http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
	if err := s.awaitEnd(r.Context(), rec.ID, 20*time.Second); err != nil {
		return err
	}
	return s.replyJob(r.Context(), w, rec.ID)
}

// awaitEnd returns when the job is no longer here, ctx ends or most has passed.
func (s *jobServer) awaitEnd(ctx context.Context, id job.ID, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for ctx.Err() == nil {
		rec, err := s.Jobs.Get(id)
		if err != nil || !rec.Here() {
			return err
		}
		if st, err := s.ShimOf(id).Status(ctx); node.NoTasksLeft(rec, err) {
			return nil
		} else if err == nil && st.Shim > 0 {
			node.AwaitProcess(ctx, st.Shim, most)
		} else {
			time.Sleep(httpjson.BusyPause)
		}
	}
	return nil
}
