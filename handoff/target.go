package handoff

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// TargetHalf is the target's side of one move. Several connections to the source may call
// its methods, at any time and more than once; one runs at a time. The caller makes sure that they come from the record's peer.
type TargetHalf struct {
	engine   Engine
	target   Target
	token    chan struct{} // holds one token; a method takes it while it runs
	rebooted bool          // the node went down since the copy was made, and the copy with it

	mu       sync.Mutex
	rec      Record
	preempt  context.CancelCauseFunc // ends a Prepare that runs
	finished chan struct{}           // closed when the move is finished here
}

// State is what is on the disk, and the answer to the source's question for the outcome.
func (h *TargetHalf) State() State { return h.Record().State }

// Record is the newest record on the disk.
func (h *TargetHalf) Record() Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rec
}

// Begin admits the move: its epoch, and that no other move of the job is unfinished here. It fails
// with ErrStaleEpoch or ErrBusy.
func (h *TargetHalf) Begin(ctx context.Context) error { return h.handle(ctx, EventBegin) }

// Prepare restores and parks the copy. When it fails, the copy is dropped and the move is over here.
func (h *TargetHalf) Prepare(ctx context.Context) error { return h.handle(ctx, EventPrepare) }

// Commit lets the copy run; nil means that it does. It fails with ErrDropped if the copy is gone and
// never ran; any other error decides nothing, and Commit is to be called again.
func (h *TargetHalf) Commit(ctx context.Context) error { return h.handle(ctx, EventCommit) }

// Abort drops the copy on the source's word, and ends a Prepare that runs. It fails with
// ErrCommitted once the source has said commit.
func (h *TargetHalf) Abort(ctx context.Context) error {
	h.preemptPrepare(EventAbort)
	return h.handle(ctx, EventAbort)
}

// Cut says that the connection to the source broke. Before the copy is prepared it is dropped. A
// prepared one stays, and Cut asks the source until it knows the outcome and has carried it out,
// whether the answer comes to it or to another method; it fails with ErrInDoubt when ctx ends first.
func (h *TargetHalf) Cut(ctx context.Context, source Asker) error {
	h.preemptPrepare(EventCut)
	if err := h.handle(ctx, EventCut); err != nil {
		return err
	}
	return h.askUntilDecided(ctx, source)
}

// Recover goes on with an unfinished move when the agent starts, and asks like Cut. When the node
// went down between its committed record and the end of the resume, it cannot be known whether the
// job ran here; then only an operator's decision, here or on the source, ends it.
func (h *TargetHalf) Recover(ctx context.Context, source Asker) error {
	event := EventRestart
	if h.rebooted {
		event = EventReboot
	}
	if err := h.handle(ctx, event); err != nil {
		return err
	}
	return h.askUntilDecided(ctx, source)
}

// InDoubt tells whether the node went down between its committed record and the end of the resume.
func (h *TargetHalf) InDoubt() bool { return h.rebooted && h.State() == StateCommitted }

func (h *TargetHalf) inDoubtError() error {
	return errors.Join(ErrInDoubt, fmt.Errorf("move %s: this node went down while it resumed job %s, which may have run here for a moment; "+
		"only an operator can tell whether it may go on on %s", h.rec.Move, h.rec.Job, h.rec.Peer))
}

// Resolve carries out an operator's decision about a move whose source is gone for good: take lets
// the copy run here, otherwise it is killed and dropped. The operator vouches that the job does not
// run on the source and has not since the freeze (take), or that it has not run here (not take). After
// take the record has PeerToTell until Journal.Told.
func (h *TargetHalf) Resolve(ctx context.Context, take bool) error {
	if take {
		return h.handle(ctx, EventTake)
	}
	return h.handle(ctx, EventDrop)
}

// Yield carries out the word of a source whose operator took the job there: whatever this node has of
// it ends, however the move ended here. It fails with ErrTaken if an operator took the job here, too,
// and it runs.
func (h *TargetHalf) Yield(ctx context.Context) error {
	h.preemptPrepare(EventYield)
	return h.handle(ctx, EventYield)
}

// handle performs an event and all that follows from it, alone.
func (h *TargetHalf) handle(ctx context.Context, event Event) error {
	release, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r := h.Record(); event == EventYield && r.Taken && r.State == StateDone {
		return fmt.Errorf("move %s: %w", h.rec.Move, ErrTaken)
	}
	before, undo := h.State(), h.noteDecision(event)
	if err := h.follow(ctx, event); err != nil {
		if h.State() == before {
			undo()
		}
		return fmt.Errorf("move %s of job %s: %w", h.rec.Move, h.rec.Job, err)
	}
	return nil
}

// noteDecision notes an operator's decision in the records to come. undo is for one that came to nothing.
func (h *TargetHalf) noteDecision(event Event) (undo func()) {
	if event != EventTake && event != EventDrop {
		return func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.rec
	h.rec.note(errOperatorDecides)
	h.rec.Taken, h.rec.PeerToTell = event == EventTake, event == EventTake
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.rec.Note, h.rec.Taken, h.rec.PeerToTell = before.Note, before.Taken, before.PeerToTell
	}
}

// lock waits until no other method runs.
func (h *TargetHalf) lock(ctx context.Context) (release func(), err error) {
	select {
	case <-h.token:
		return func() { h.token <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("move %s: %w", h.rec.Move, context.Cause(ctx))
	}
}

// follow performs events until none is left. The first error is returned, but what follows from it
// is done.
func (h *TargetHalf) follow(ctx context.Context, event Event) (first error) {
	for event != "" {
		next, actions, err := Step(RoleTarget, h.State(), event)
		if err == nil {
			event, err = h.perform(ctx, next, actions)
		} else {
			event = ""
		}
		if first == nil {
			first = err
		} else if err != nil {
			first = errors.Join(first, err)
		}
	}
	return first
}

// perform does the actions of one rule. An error comes with the event that follows from it, if any.
func (h *TargetHalf) perform(ctx context.Context, next State, actions []Action) (Event, error) {
	var event Event
	for _, a := range actions {
		var err error
		if event, err = h.do(ctx, a, next); err != nil {
			return event, fmt.Errorf("%s: %w", a, err)
		}
		if event != "" {
			return event, nil
		}
	}
	if len(actions) == 0 {
		h.become(next)
	}
	return event, nil
}
