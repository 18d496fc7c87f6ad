package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/timens"
)

func (a *Agent) handleRestore(w http.ResponseWriter, r *http.Request, c caller) error {
	var req api.RestoreRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if c.peer != "" || !filepath.IsAbs(req.Dir) {
		return &api.Error{Code: api.CodeUsage, Message: "a restore takes the absolute path of a directory on its own node"}
	}
	if err := checkDead(req.DeclaredDead, c); err != nil {
		return err
	}
	mode, err := timens.ParseMode(orElse(req.Clock, timens.Continuous.String()))
	if err != nil {
		return &api.Error{Code: api.CodeUsage, Message: err.Error(), Hint: "`migrate restore --clock continuous` or `migrate restore --clock elapsed`"}
	}
	b := &bringing{a: a, req: req, mode: mode, id: handoff.NewMoveID(), owner: c}
	defer b.close()
	if err := b.open(r.Context(), c); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	b.tell = newAccount(&flusher{w, http.NewResponseController(w)}, b.rec.ID, string(b.id), b.sizes)
	res, err := b.run(r.Context())
	b.tell.end(res, err)
	return nil
}

// bringing is one restore of a job from a directory.
type bringing struct {
	a         *Agent
	req       api.RestoreRequest
	mode      timens.Mode
	id        handoff.MoveID
	tell      *account
	dir       *os.File // the directory
	sealed    *store.Sealed
	lanes     *savedLanes // once they are read
	cargo     cargo
	rec       job.Record
	landing   *landing // once it is open
	asked     *handoff.Inquiry
	lastClaim int64
	staked    bool
	settling  bool // in the background, which closes the directory
	owner     caller
}

func (b *bringing) sizes(e *api.Event) {
	if b.landing != nil {
		e.Read = b.landing.in.Received.Load()
	}
}

// open opens the directory and all its files, once and with the caller's rights. From then
// on no name in there and no path to it counts.
func (b *bringing) open(ctx context.Context, c caller) error {
	as := func(do func() error) error { return asCaller(c, do) }
	err := as(func() (err error) {
		b.dir, err = openDirectory(b.req.Dir)
		return err
	})
	if err != nil {
		return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("you cannot read %s: %v", b.req.Dir, err), Hint: "name a directory that `migrate checkpoint` wrote"}
	}
	if b.sealed, err = store.Open(b.dir, as, b.a.id.Verify); err != nil {
		return b.notTrusted(err)
	}
	if err := json.Unmarshal(b.sealed.Manifest.Job, &b.cargo); err != nil {
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("the checkpoint in %s: %v", b.req.Dir, err)}
	}
	if err := b.cargo.Record.Validate(); err != nil {
		return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("the checkpoint in %s: %v", b.req.Dir, err)}
	}
	b.cargo.Needs.FromCheckpoint = true
	b.rec = b.cargo.Record
	if !c.may(b.rec) {
		return forbidden()
	}
	if err := c.stillIn(b.rec); err != nil {
		return err
	}
	return b.inquire(ctx, c)
}

func (b *bringing) notTrusted(err error) error {
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("the checkpoint in %s is not to be trusted: %v", b.req.Dir, err),
		Hint: "name a directory that `migrate checkpoint` wrote on a node of this cluster, and nothing has changed since"}
}

// close closes what is open, once nobody reads it any more: that may take long for files
// on a server that is away, and holds up nobody but this caller.
func (b *bringing) close() {
	if b.lanes != nil {
		b.lanes.wait()
	}
	if b.sealed != nil {
		_ = b.sealed.Close() // only read
	}
	if b.dir != nil && !b.settling {
		_ = b.dir.Close() // only names were looked up in it
	}
}

func (b *bringing) run(ctx context.Context) (*api.Result, error) {
	b.tell.enter(api.PhasePreflight, "")
	findings, err := b.a.examine(ctx, b.cargo.Needs, b.rec)
	if err != nil {
		return nil, b.explain(err)
	}
	if len(findings) > 0 {
		return nil, b.explain(refused(asFindings(findings)))
	}
	if err := b.restore(ctx); err != nil {
		return nil, b.explain(err)
	}
	return &api.Result{Job: b.rec.ID, Move: string(b.id), Node: b.a.cfg.Node, Dir: b.req.Dir, Epoch: b.rec.Epoch}, nil
}

// restore runs the target's half of a move whose source is the directory.
func (b *bringing) restore(ctx context.Context) error {
	b.rec.Epoch = b.asked.Epoch(b.rec.Epoch)
	l := newLanding(b.a, string(b.id), b.rec.ID)
	l.recorded = b.sealed.Manifest.Recorded()
	extra, err := json.Marshal(savingExtra{Dir: b.req.Dir})
	if err != nil {
		return err
	}
	rec := handoff.Record{Move: b.id, Kind: handoff.KindRestore, Job: string(b.rec.ID), Peer: b.a.cfg.Node, Epoch: b.rec.Epoch, BootID: b.a.boot, Extra: extra,
		Since: b.a.arrivesSince(b.rec)}
	if err := b.a.mayArrive(b.rec); err != nil {
		return err
	}
	half := b.a.engine().NewTarget(rec, l)
	taken, err := b.a.keepIDs(b.id, b.rec)
	if err != nil {
		return err
	}
	if len(taken) > 0 {
		return refused(asFindings(taken))
	}
	if err := b.begin(ctx, half); err != nil {
		b.a.ids.letGo(string(b.id))
		return err
	}
	return b.settle(half, b.bring(ctx, l, half))
}

// bring takes the job out of the directory, claims it and lets it run.
func (b *bringing) bring(ctx context.Context, l *landing, half *handoff.TargetHalf) error {
	if err := b.own(ctx); err != nil {
		return err
	}
	free := b.a.askNetwork(ctx, b.rec.Spec)
	if err := errors.Join(b.fetch(ctx, l), free()); err != nil {
		return err
	}
	b.tell.enter(api.PhasePark, "")
	if err := half.Prepare(ctx); err != nil {
		return err
	}
	b.tell.enter(api.PhaseResume, "")
	claim := store.Claim{Node: b.a.cfg.Node, Addr: b.a.publicAddr(), Epoch: b.rec.Epoch, At: time.Now()}
	if err := asCaller(b.owner, func() error { return store.Stake(b.dir, claim, b.lastClaim) }); err != nil {
		return err
	}
	b.staked = true
	return half.Commit(context.WithoutCancel(ctx))
}

// settle undoes a restore that has failed, or finds that the job runs. What cannot be
// done now the agent does as soon as it can.
func (b *bringing) settle(half *handoff.TargetHalf, err error) error {
	if err == nil {
		return b.brought(half)
	}
	if state := half.State(); state == handoff.StateReceiving || state == handoff.StatePrepared {
		ctx, cancel := context.WithTimeout(b.a.life, undoRestoreTime)
		defer cancel()
		err = errors.Join(err, half.Abort(ctx))
	}
	if half.State().Finished() {
		return errors.Join(err, b.unstake(half), b.brought(half))
	}
	b.settling = true
	b.a.background.Go(func() {
		defer b.dir.Close() // as above
		b.a.insist("a restore waits", b.id, func() error {
			return errors.Join(b.a.finish(half, givenUp{}), b.unstake(half), b.brought(half))
		})
	})
	return &api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "in " + b.req.Dir + ", saved; or on " + b.a.cfg.Node + ", running",
		Hint: "nothing is lost and nothing runs twice: the agent undoes the restore as soon as it can, unless the job runs already; `migrate moves` and `migrate ps` tell"}
}

// undoRestoreTime is how long a user waits until a restore that has failed is undone.
const undoRestoreTime = time.Minute

func (b *bringing) unstake(half *handoff.TargetHalf) error {
	if !b.staked || half.State() != handoff.StateDropped {
		return nil
	}
	return asCaller(b.owner, func() error { return store.Unstake(b.dir, b.rec.Epoch) })
}

// fetch reads the directory and sets the clocks.
func (b *bringing) fetch(ctx context.Context, l *landing) error {
	b.tell.enter(api.PhaseResidue, "")
	if err := l.open(); err != nil {
		return err
	}
	b.tell.know(func() { b.landing = l })
	if err := l.admit(b.rec); err != nil {
		return err
	}
	if err := l.expect(b.rec, false); err != nil {
		return err
	}
	var err error
	if b.lanes, err = readAhead(b.sealed); err != nil {
		return err
	}
	l.in.Stop = b.lanes.stop // who reads does not see the end of ctx
	release := context.AfterFunc(ctx, b.lanes.stop)
	defer release()
	err = l.in.Receive(ctx, b.lanes.readers)
	if ctx.Err() == nil && (errors.Is(err, store.ErrDigest) || errors.Is(err, image.ErrSize)) {
		return b.notTrusted(err)
	}
	if err != nil {
		return err
	}
	l.received <- nil
	return b.setClocks()
}

func (b *bringing) setClocks() error {
	now, err := timens.Host()
	if err != nil {
		return err
	}
	c := b.sealed.Manifest.Clock
	frozen := timens.Reading{Monotonic: c.Mono, Boottime: c.Boot, Realtime: c.Real}
	mono, boot := timens.Continue(frozen, b.mode, now, 0)
	return image.SetClocks(b.landing.images(), mono, boot)
}

func (b *bringing) explain(err error) error {
	where := b.saved()
	var told *api.Error
	if errors.As(err, &told) {
		told.Where = orElse(told.Where, where)
		told.Message = strings.Replace(told.Message, "refused the move", "refused the restore", 1)
		return told
	}
	if errors.Is(err, context.Canceled) {
		return &api.Error{Code: api.CodeCancelled, Message: "cancelled; the checkpoint is as it was", Where: where}
	}
	return withDiagnosis(&api.Error{Code: api.CodeFailed, Message: err.Error(), Where: where, Hint: "the checkpoint is as it was; remove the cause, then `migrate restore` again"}, err)
}

// downtime is how long the job has been frozen by now.
func (d *departure) downtime() time.Duration {
	if d.frozen.IsZero() {
		return 0
	}
	if !d.thawed.IsZero() {
		return d.thawed.Sub(d.frozen)
	}
	return time.Since(d.frozen)
}
