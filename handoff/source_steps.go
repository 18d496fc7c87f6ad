package handoff

import (
	"context"
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/failpoint"
)

func (r *sourceRun) append(next State) error {
	rec := r.rec
	rec.State = next
	if next == StateReleased || next == StateCommitted { // an operator took the peer's copy later
		rec.Taken, rec.PeerToTell = false, false
	}
	failpoint.Point("before", "source", string(next))
	if err := r.engine.Journal.Append(rec); err != nil {
		return err
	}
	failpoint.Point("after", "source", string(next))
	r.rec = rec
	r.engine.Observe(rec)
	return nil
}

// journal writes the new state, and says what follows when it cannot be written.
func (r *sourceRun) journal(ctx context.Context, next State) (Event, error) {
	if next == StateAborting {
		return "", r.journalAborting(ctx)
	}
	err := r.append(next)
	switch {
	case err == nil:
		return "", nil
	case next == StateFrozen && r.rec.State == StateNew:
		return "", &stop{r.firstRecordFailed(ctx, err), err}
	case next == StateCommitted:
		return r.commitRecordFailed(err)
	case next == StateReleased:
		return "", &stop{OutcomeUnclean, err}
	}
	r.addCause(err) // aborted: it is carried out, and the records before it lead recovery here again
	return "", nil
}

// firstRecordFailed ends a move whose first record could not be written: the job runs untouched.
func (r *sourceRun) firstRecordFailed(ctx context.Context, err error) Outcome {
	if errors.Is(err, ErrUnsure) {
		r.rec.note(err)
		if err := r.append(StateAborted); err != nil {
			r.cause = errors.Join(r.cause, err)
		}
	}
	r.sendAbort(ctx)
	if errors.Is(err, ErrBusy) || errors.Is(err, ErrGuarded) {
		return OutcomeRefused
	}
	return OutcomeAborted
}

// commitRecordFailed handles a commit record that could not be written. It fails like any other step; if
// the record may be on the disk nevertheless, journalAborting keeps the job frozen until it is
// proven to be overruled.
func (r *sourceRun) commitRecordFailed(err error) (Event, error) {
	r.unsure = errors.Is(err, ErrUnsure)
	if r.rebooted || r.peerTaken { // nothing to go back to; the target keeps its copy
		return "", &stop{OutcomeInDoubt, err}
	}
	r.addCause(err)
	return EventFail, nil
}

// journalAborting writes the decision to thaw. Where a committed record is or may be on the disk the
// job must not run before the decision is there too; otherwise the job comes first.
func (r *sourceRun) journalAborting(ctx context.Context) error {
	var pause backoff
	for {
		err := r.append(StateAborting)
		if err == nil {
			return nil
		}
		if r.rec.State != StateCommitted && !r.unsure {
			r.addCause(err)
			r.rec.State = StateAborting
			return nil
		}
		if !pause.wait(ctx, nil) {
			return &stop{OutcomeInDoubt, fmt.Errorf("the job stays frozen: %w", err)}
		}
	}
}

// sendCommit tells the peer to commit, until its record shows the outcome.
func (r *sourceRun) sendCommit(ctx context.Context) (Event, error) {
	var pause backoff
	once := context.WithoutCancel(ctx)
	for {
		err := within(once, callTimeout, r.peer.Commit)
		if err == nil {
			return EventPeerRuns, nil
		}
		if event := r.verdict(once, err); event != "" {
			return event, nil
		}
		if !pause.wait(ctx, nil) {
			return "", &stop{OutcomeInDoubt, errors.Join(context.Cause(ctx), err)}
		}
		once = ctx
	}
}

// verdict asks for the peer's record after a commit that was answered with an error, or not
// at all.
func (r *sourceRun) verdict(ctx context.Context, said error) Event {
	state, err := r.outcome(ctx)
	switch {
	case err != nil:
		return ""
	case state == StateDone:
		return EventPeerRuns
	case state != StateDropped:
		return ""
	}
	r.addCause(fmt.Errorf("%s: %w (%w)", r.rec.Peer, ErrDropped, said))
	if r.rebooted {
		return EventLost
	}
	return EventPeerDropped
}

func (r *sourceRun) outcome(ctx context.Context) (state State, err error) {
	err = within(ctx, callTimeout, func(ctx context.Context) error {
		state, err = r.peer.Outcome(ctx)
		return err
	})
	return state, err
}

// ask finds out, after a reboot before the commit point, whether the peer's copy is the last one.
func (r *sourceRun) ask(ctx context.Context) (Event, error) {
	var pause backoff
	for {
		state, err := r.outcome(ctx)
		if err == nil {
			switch state {
			case StatePrepared, StateCommitted, StateDone:
				return EventRescue, nil
			case StateNew, StateReceiving, StateDropped:
				r.addCause(fmt.Errorf("this node went down while the job was frozen, and the copy on %s is %s", r.rec.Peer, state))
				return EventLost, nil
			}
			err = fmt.Errorf("%s answers %.40q", r.rec.Peer, state)
		}
		if errors.Is(err, ErrUnknownMove) {
			r.addCause(fmt.Errorf("this node went down while the job was frozen, and %s knows no copy", r.rec.Peer))
			return EventLost, nil
		}
		if !pause.wait(ctx, nil) {
			return "", &stop{OutcomeInDoubt, errors.Join(context.Cause(ctx), err)}
		}
	}
}

// askDrop makes sure, when the agent starts again, that the peer's copy is gone before the job goes on
// here: the peer could not reach this node, and an operator may have let its copy run.
func (r *sourceRun) askDrop(ctx context.Context) (Event, error) {
	var pause backoff
	for {
		event, err := r.tryDrop(ctx)
		if event == EventPeerTook {
			r.peerTaken = true
			r.addCause(fmt.Errorf("an operator took the copy on %s", r.rec.Peer))
		}
		if event != "" {
			return event, nil
		}
		if !pause.wait(ctx, nil) {
			return "", &stop{OutcomeInDoubt, fmt.Errorf("the job stays frozen until %s has dropped its copy: %w", r.rec.Peer, errors.Join(context.Cause(ctx), err))}
		}
	}
}

// tryDrop is one try; without an event its error says why there is no answer.
func (r *sourceRun) tryDrop(ctx context.Context) (Event, error) {
	word := r.peer.Abort
	if r.rec.Taken {
		word = r.peer.Yield
	}
	err := within(ctx, callTimeout, word)
	switch {
	case err == nil || errors.Is(err, ErrUnknownMove):
		return EventPeerDropped, nil
	case errors.Is(err, ErrTaken):
		return EventPeerTook, nil
	case r.rec.Taken:
		return "", err
	}
	state, asked := r.outcome(ctx)
	switch {
	case errors.Is(asked, ErrUnknownMove) || asked == nil && (state == StateNew || state == StateDropped):
		return EventPeerDropped, nil
	case asked == nil && (state == StateCommitted || state == StateDone):
		return EventPeerTook, nil
	}
	return "", err
}

// checkFrozen makes sure that there is a frozen job to take.
func (r *sourceRun) checkFrozen(ctx context.Context) error {
	if err := r.source.StillFrozen(ctx); err != nil {
		return &stop{OutcomeRefused, fmt.Errorf("there is no frozen job to take here: %w", err)}
	}
	return nil
}

func (r *sourceRun) thaw(ctx context.Context) (Event, error) {
	if err := retryCleanup(ctx, r.source.Thaw); err != nil {
		return "", &stop{OutcomeInDoubt, fmt.Errorf("the move is aborted, but the job is still frozen: thaw: %w", err)}
	}
	return EventThawed, nil
}

// sendAbort is a courtesy: a target that does not hear it asks.
func (r *sourceRun) sendAbort(ctx context.Context) {
	if err := within(context.WithoutCancel(ctx), callTimeout, r.peer.Abort); err != nil {
		r.cause = errors.Join(r.cause, fmt.Errorf("%s: %w", ActionSendAbort, err))
	}
}

// release may take as long as the target pulls pages. Once ctx has ended there is one short try.
func (r *sourceRun) release(ctx context.Context) (Event, error) {
	var pause backoff
	for range cleanupTries {
		err := r.source.Release(ctx)
		if err == nil {
			return "", nil
		}
		r.cause = errors.Join(r.cause, fmt.Errorf("%s: %w", ActionRelease, err))
		if !pause.wait(ctx, nil) {
			break
		}
	}
	if err := within(context.WithoutCancel(ctx), cleanupTimeout, r.source.Release); err != nil {
		return "", &stop{OutcomeUnclean, err}
	}
	return "", nil
}
