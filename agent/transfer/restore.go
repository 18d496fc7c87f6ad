package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/timens"
)

// Restore brings a job back from a checkpoint of the caller's. begun is as for Move.
func (a *Transfers) Restore(ctx context.Context, c caller.Caller, req api.RestoreRequest, mode timens.Mode, begun func() io.Writer) error {
	b := &restoreOp{a: a, req: req, mode: mode, id: handoff.NewMoveID()}
	defer b.close()
	if err := b.open(ctx, c); err != nil {
		return err
	}
	b.tell = progress.New(begun(), b.rec.ID, string(b.id), b.sizes)
	res, err := b.run(ctx)
	b.tell.End(res, err)
	return nil
}

func (b *restoreOp) sizes(e *api.Event) {
	if b.landing != nil {
		e.Read = b.landing.Receiver.Received.Load()
	}
}

// open opens the checkpoint and all that is in it, once and with the caller's rights. From then
// on nothing that has its name counts.
func (b *restoreOp) open(ctx context.Context, c caller.Caller) error {
	saved, err := b.a.Store.Open(b.req.Dir, c.User())
	if errors.Is(err, store.ErrName) {
		return &api.Error{Code: api.CodeUsage, Message: err.Error(), Hint: "`migrate restore DIR` makes an absolute path of DIR by itself"}
	}
	if err != nil {
		return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("you cannot read %s: %v", b.req.Dir, err), Hint: "name a directory that `migrate checkpoint` wrote"}
	}
	b.saved = saved
	if b.manifest, err = saved.Manifest(b.a.Identity.Verify); err != nil {
		return b.notTrusted(err)
	}
	if err := exactjson.Unmarshal(b.manifest.Job, &b.cargo); err != nil {
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("the checkpoint in %s: %v", b.req.Dir, err)}
	}
	if err := b.cargo.Record.Validate(); err != nil {
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("the checkpoint in %s: %v", b.req.Dir, err)}
	}
	b.rec = b.cargo.Record
	if !c.CanAccess(b.rec) {
		return caller.Forbidden()
	}
	if err := c.CheckGroups(b.rec); err != nil {
		return err
	}
	return b.inquire(ctx)
}

func (b *restoreOp) notTrusted(err error) error {
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("the checkpoint in %s is not to be trusted: %v", b.req.Dir, err),
		Hint: "name a directory that `migrate checkpoint` wrote on a node of this cluster, and nothing has changed since"}
}

// close closes what is open, once nothing reads it any more: that may take long for a place
// that is away, and holds up this caller only.
func (b *restoreOp) close() {
	b.awaitLanes()
	if b.saved != nil && !b.settling {
		_ = b.saved.Close() // only read
	}
}

func (b *restoreOp) awaitLanes() {
	if b.lanes != nil {
		b.lanes.Wait()
	}
}

func (b *restoreOp) run(ctx context.Context) (*api.Result, error) {
	b.tell.Enter(api.PhasePreflight, "")
	findings, err := b.a.Arrivals.examine(ctx, b.cargo.Needs, b.rec)
	if err != nil {
		return nil, b.explain(err)
	}
	if len(findings) > 0 {
		return nil, b.explain(peer.Refused(source.AsFindings(findings)))
	}
	if err := b.restore(ctx); err != nil {
		return nil, b.explain(err)
	}
	return &api.Result{Job: b.rec.ID, Move: string(b.id), Node: b.a.Config.Node, Dir: b.req.Dir, Epoch: b.rec.Epoch}, nil
}

// restore runs the target's half of a move whose source is the checkpoint.
func (b *restoreOp) restore(ctx context.Context) error {
	b.rec.Epoch = b.asked.Epoch(b.rec.Epoch)
	l := target.NewJob(b.a.Targets, string(b.id), b.rec.ID)
	l.Recorded = b.manifest.Recorded()
	extra, err := node.Saving{Checkpoint: store.Ref{Name: b.req.Dir}}.Extra()
	if err != nil {
		return err
	}
	rec := handoff.Record{Move: b.id, Kind: handoff.KindRestore, Job: string(b.rec.ID), Peer: b.a.Config.Node, Epoch: b.rec.Epoch, BootID: b.a.Boot, Extra: extra,
		Since: b.a.EarliestArrival(b.rec)}
	if err := b.a.CheckArrival(b.rec); err != nil {
		return err
	}
	half := b.a.Arrivals.engine().NewTarget(rec, l)
	taken, err := b.a.ReserveIDs(b.id, b.rec)
	if err != nil {
		return err
	}
	if len(taken) > 0 {
		return peer.Refused(source.AsFindings(taken))
	}
	if err := b.begin(ctx, half); err != nil {
		b.a.IDs.Release(string(b.id))
		return err
	}
	return b.settle(half, b.bring(ctx, l, half))
}

// bound says what becomes of threads that are bound to processors, "" if there are none.
func (b *restoreOp) bound() string {
	here, err := affinity.Of(0)
	if err != nil { // the shim looks by itself
		return ""
	}
	return affinity.Placement{Bound: b.cargo.Needs.CPUs, Given: here}.String()
}

// bring takes the job out of the checkpoint, claims it and lets it run.
func (b *restoreOp) bring(ctx context.Context, l *target.Job, half *handoff.TargetHalf) error {
	if err := b.own(ctx); err != nil {
		return err
	}
	free := b.a.Launcher.ProbeNetwork(ctx, b.rec.Spec)
	if err := errors.Join(b.fetch(ctx, l), free()); err != nil {
		return err
	}
	b.tell.Enter(api.PhasePark, b.bound())
	if err := half.Prepare(ctx); err != nil {
		return err
	}
	b.tell.Enter(api.PhaseResume, "")
	claim := store.Claim{Node: b.a.Config.Node, Addr: b.a.Peers.PublicAddr(), Epoch: b.rec.Epoch, At: time.Now()}
	if err := b.saved.Claim(claim, b.lastClaim); err != nil {
		return err
	}
	b.claimed = true
	return half.Commit(context.WithoutCancel(ctx))
}

// settle undoes a restore that has failed, or finds that the job runs. What cannot be
// done now the agent does as soon as it can.
func (b *restoreOp) settle(half *handoff.TargetHalf, err error) error {
	if err == nil {
		return b.brought(half)
	}
	if state := half.State(); state == handoff.StateReceiving || state == handoff.StatePrepared {
		ctx, cancel := context.WithTimeout(b.a.Life, undoRestoreTime)
		defer cancel()
		err = errors.Join(err, half.Abort(ctx))
	}
	if half.State().Finished() {
		return errors.Join(err, b.release(half), b.brought(half))
	}
	b.settling = true
	b.a.Background.Go(func() {
		defer b.saved.Close() // as above
		defer b.awaitLanes()
		b.a.Recovery.insist("a restore waits", b.id, func() error {
			return errors.Join(b.a.Arrivals.finish(half, givenUp{}), b.release(half), b.brought(half))
		})
	})
	return &api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "in " + b.req.Dir + ", saved; or on " + b.a.Config.Node + ", running",
		Hint: "nothing is lost and nothing runs twice: the agent undoes the restore as soon as it can, unless the job runs already; `migrate moves` and `migrate ps` tell"}
}

// undoRestoreTime is how long a user waits until a restore that has failed is undone.
const undoRestoreTime = time.Minute

func (b *restoreOp) release(half *handoff.TargetHalf) error {
	if !b.claimed || half.State() != handoff.StateDropped {
		return nil
	}
	return b.saved.Release(b.rec.Epoch)
}

// fetch reads the checkpoint and sets the clocks.
func (b *restoreOp) fetch(ctx context.Context, l *target.Job) error {
	b.tell.Enter(api.PhaseResidue, "")
	if err := l.Open(); err != nil {
		return err
	}
	b.tell.Update(func() { b.landing = l })
	if err := l.ClaimAddress(b.rec); err != nil {
		return err
	}
	if err := l.SetRecord(b.rec, false); err != nil {
		return err
	}
	var err error
	if b.lanes, err = b.saved.Lanes(); err != nil {
		return err
	}
	l.Receiver.Stop = b.lanes.GiveUp // who reads does not see the end of ctx
	release := context.AfterFunc(ctx, b.lanes.GiveUp)
	defer release()
	err = l.Receiver.Receive(ctx, b.lanes.Readers)
	if ctx.Err() == nil && (errors.Is(err, store.ErrDigest) || errors.Is(err, image.ErrSize)) {
		return b.notTrusted(err)
	}
	if err != nil {
		return err
	}
	l.Received <- nil
	return b.setClocks()
}

func (b *restoreOp) setClocks() error {
	now, err := timens.Host()
	if err != nil {
		return err
	}
	c := b.manifest.Clock
	frozen := timens.Reading{Monotonic: c.Mono, Boottime: c.Boot, Realtime: c.Real}
	mono, boot := timens.Continue(frozen, b.mode, now, 0)
	return image.SetClocks(b.landing.Images(), mono, boot)
}

func (b *restoreOp) explain(err error) error {
	where := b.whereSaved()
	var told *api.Error
	if errors.As(err, &told) {
		told.Where = cmp.Or(told.Where, where)
		if len(told.Findings) > 0 {
			told.Message = "preflight refused the restore"
		}
		return told
	}
	if errors.Is(err, context.Canceled) {
		return &api.Error{Code: api.CodeCancelled, Message: "cancelled; the checkpoint is as it was", Where: where}
	}
	return source.WithDiagnosis(&api.Error{Code: api.CodeFailed, Message: err.Error(), Where: where, Hint: "the checkpoint is as it was; remove the cause, then `migrate restore` again"}, err)
}
