package handoff

import (
	"context"
	"errors"
	"sync"
)

// Opener gives the engine its hands for a move that the journal remembers.
type Opener interface {
	OpenSource(ctx context.Context, rec Record) (Source, Peer, error)
	// OpenTarget also makes the half known to whoever serves the source's connections, because a
	// commit or an abort may come while Recover asks.
	OpenTarget(ctx context.Context, rec Record) (*TargetHalf, Asker, error)
}

// Recover goes on with every unfinished move when an agent starts, by the table in doc.go, all of
// them at once; boot is the running boot. report, which may be nil, is told how each one ended, one
// at a time. Recover returns when all have ended, which may take until ctx ends, as a peer may be
// away: run it beside the agent's other work. Its error names the moves that could not be finished
// and those whose record is damaged, which are left alone.
func Recover(ctx context.Context, j *Journal, boot string, open Opener, report func(Record, error)) error {
	records, err := j.Unfinished()
	var mu sync.Mutex
	errs := []error{err}
	var all sync.WaitGroup
	for _, rec := range records {
		all.Go(func() {
			err := recoverOne(ctx, j, rec, boot, open)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			if newest, getErr := j.Get(rec.Move); getErr == nil {
				rec = newest
			}
			if report != nil {
				report(rec, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func recoverOne(ctx context.Context, j *Journal, rec Record, boot string, open Opener) error {
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
	outcome, err := RecoverSource(ctx, j, rec, boot, s, p, nil)
	if outcome == OutcomeAborted { // an abort is how recovery ends well
		return nil
	}
	return err
}
