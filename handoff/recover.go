package handoff

import (
	"context"
	"errors"
	"sync"
)

// Opener gives the engine its hands for a move that the journal remembers.
type Opener interface {
	OpenSource(ctx context.Context, rec Record) (Source, Peer, error)
	// OpenTarget also registers the half for the source's connections: a commit or an abort may come
	// while Recover asks.
	OpenTarget(ctx context.Context, rec Record) (*TargetHalf, Asker, error)
}

// Recover goes on with every unfinished move when an agent starts, by the table in doc.go, all of
// them at once. report is told how each one ended, one at a time. Recover returns when all have
// ended, which may take until ctx ends, as a peer may be away: run it beside the agent's other work.
// Its error names the moves that could not be finished and those whose record is damaged, which are
// left alone.
func (e Engine) Recover(ctx context.Context, open Opener, report func(Record, error)) error {
	records, err := e.Journal.Unfinished()
	var mu sync.Mutex
	errs := []error{err}
	var all sync.WaitGroup
	for _, rec := range records {
		all.Go(func() {
			err := e.recoverOne(ctx, rec, open)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			if newest, getErr := e.Journal.Get(rec.Move); getErr == nil {
				rec = newest
			}
			report(rec, err)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (e Engine) recoverOne(ctx context.Context, rec Record, open Opener) error {
	if rec.Role == RoleTarget {
		half, source, err := open.OpenTarget(ctx, rec)
		if err != nil {
			return err
		}
		return half.Recover(ctx, source)
	}
	s, p, err := open.OpenSource(ctx, rec)
	if err != nil {
		return err
	}
	outcome, err := e.RecoverSource(ctx, rec, s, p)
	if outcome == OutcomeAborted { // an abort is how recovery ends well
		return nil
	}
	return err
}
