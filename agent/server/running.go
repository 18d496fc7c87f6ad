package server

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
)

// whenRunning runs h once no move has the job frozen: here or, if the job moves away, on the other
// node. With noFreeze no freeze begins meanwhile, and h has at most node.SharedLockTime.
func (s *jobServer) whenRunning(h jobHandler, noFreeze bool) jobHandler {
	return func(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
		ctx, cancel := context.WithTimeout(r.Context(), node.FrozenWaitTime)
		defer cancel()
		for rec.MovedTo == nil {
			if done, err := s.ifRunning(ctx, r, rec, noFreeze, func(r *http.Request) error { return h(w, r, c, rec) }); done {
				return err
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is frozen for a move that is not finished; nothing was done", rec.ID),
					Where: "on " + s.Config.Node + ", or on the other node of the move", Hint: "`migrate moves` tells what it waits for; try again then"}
			}
			again, err := s.Server.find(ctx, string(rec.ID), c)
			if err != nil {
				return err
			}
			rec = again
		}
		return s.Server.forward(w, r, c, rec)
	}
}

// ifRunning runs do unless a move has the job frozen; done tells whether it did.
func (s *jobServer) ifRunning(ctx context.Context, r *http.Request, rec job.Record, noFreeze bool, do func(*http.Request) error) (done bool, err error) {
	if noFreeze {
		leave, err := s.FreezeLocks.LockShared(ctx, rec.ID)
		if err != nil {
			return false, nil
		}
		defer leave()
		within, cancel := context.WithTimeout(ctx, node.SharedLockTime)
		defer cancel()
		ctx, r = within, r.WithContext(within)
	}
	if s.FrozenForMove(ctx, rec) {
		return false, nil
	}
	return true, do(r)
}
