package handoff

import (
	"context"
	"errors"
)

// Source is the job on the node that it leaves. Every method is idempotent. The engine calls one at
// a time; after a crash it calls them on a Source opened anew from the record.
type Source interface {
	// Freeze stops the job. When it fails the job may be frozen in part; Thaw follows.
	Freeze(ctx context.Context) error
	// Transfer brings everything that the restore needs to the target, durably enough to prepare.
	Transfer(ctx context.Context) error
	// StillFrozen asks the kernel, right before the commit record, whether every task of the job is
	// frozen and was since Freeze. Any error aborts the move.
	StillFrozen(ctx context.Context) error
	// Thaw lets the job run here again, with its network.
	Thaw(ctx context.Context) error
	// Release kills the frozen tree without letting it run and frees what the move held. After an
	// abort, when an operator took the target's copy, the tree may run; it ends all the same. If the
	// target still pulls pages (post-copy), Release waits until it has every page, and ends with an
	// error soon after ctx does.
	Release(ctx context.Context) error
}

// Target is the copy on the node that the job comes to. Every method is idempotent.
type Target interface {
	// Prepare restores the job and parks it: it cannot run before Resume. It returns soon after ctx ends.
	Prepare(ctx context.Context) error
	// StillParked asks the kernel, right before the committed record, whether the copy is there. An
	// error that wraps ErrGone says that it is proven to be gone, one that wraps ErrRuns that it was
	// resumed; any other error decides nothing.
	StillParked(ctx context.Context) error
	// Resume lets the copy run, and succeeds if it runs or ran already. An error that wraps ErrGone
	// says that the copy is gone and proven never to have run; any other error decides nothing.
	Resume(ctx context.Context) error
	// Drop kills a copy that has not run and frees everything received.
	Drop(ctx context.Context) error
	// End is Drop for a copy that may have run: whatever there is of it ends, and this node knows
	// from then on that the job is the source's.
	End(ctx context.Context) error
}

// Wrapped by Target when its copy is proven to be gone without having run, or to have been resumed.
var (
	ErrGone = errors.New("the parked copy is gone and never ran")
	ErrRuns = errors.New("the copy is not parked any more: it was resumed")
)

// Asker tells what the other node's journal says about the move. It answers by Journal.Answer over
// there; an error leaves the question open.
type Asker interface {
	Outcome(ctx context.Context) (State, error)
}

// Peer is the target, as the source reaches it: each call uses whatever connection there is now, or
// makes one. Errors decide nothing, except before the commit point, where any of them aborts.
type Peer interface {
	Asker
	// Prepare returns nil when the peer has a durable prepared record.
	Prepare(ctx context.Context) error
	// Commit returns nil when the job runs there.
	Commit(ctx context.Context) error
	// Abort tells the peer to drop its copy.
	Abort(ctx context.Context) error
	// Yield tells the peer that an operator took the job here, and returns nil when whatever the peer
	// had of it has ended. An error that wraps ErrTaken says that one took it there, too.
	Yield(ctx context.Context) error
}
