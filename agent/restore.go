package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/checkpoint/image"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/timens"
)

func (a *Agent) handleRestore(w http.ResponseWriter, r *http.Request, c caller) error {
	var req api.RestoreRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if c.peer != "" || !filepath.IsAbs(req.Dir) {
		return &api.Error{Code: api.Usage, Message: "a restore takes the absolute path of a directory on its own node"}
	}
	mode, err := timens.ParseMode(orElse(req.Clock, timens.Continuous.String()))
	if err != nil {
		return &api.Error{Code: api.Usage, Message: err.Error(), Hint: "--clock continuous or --clock elapsed"}
	}
	if err := asCaller(c, func() error { return reachAs([]string{req.Dir}) }); err != nil {
		return &api.Error{Code: api.Usage, Message: err.Error(), Hint: "name a directory that `migrate checkpoint` wrote"}
	}
	b := &bringing{a: a, req: req, mode: mode, id: handoff.NewMoveID()}
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
	manifest  image.Manifest
	cargo     cargo
	rec       job.Record
	landing   *landing // once it is open
	lastClaim int64
	staked    bool
	owner     caller
}

func (b *bringing) sizes(e *api.Event) {
	if b.landing != nil {
		e.Read = b.landing.in.Received.Load()
	}
}

// open checks the directory completely before anything of it is believed.
func (b *bringing) open(ctx context.Context, c caller) error {
	m, err := image.Open(b.req.Dir, b.a.id.Verify)
	if err != nil {
		return &api.Error{Code: api.Refused, Message: fmt.Sprintf("the checkpoint in %s is not to be trusted: %v", b.req.Dir, err),
			Hint: "only an unchanged directory that a node of this cluster has written can be restored"}
	}
	if err := json.Unmarshal(m.Job, &b.cargo); err != nil {
		return &api.Error{Code: api.Refused, Message: fmt.Sprintf("the checkpoint in %s: %v", b.req.Dir, err)}
	}
	b.cargo.Needs.Saved = true
	b.manifest, b.rec = m, b.cargo.Record
	if !c.may(b.rec) {
		return forbidden()
	}
	return b.notAlive(ctx, c)
}

// notAlive refuses to bring back a job that has not ended, as far as this node,
// the node that it moved to, or the one that brought it back last can tell.
func (b *bringing) notAlive(ctx context.Context, c caller) error {
	claims, err := b.claims(c)
	if err != nil {
		return &api.Error{Code: api.Refused, Message: err.Error(), Where: "in " + b.req.Dir + ", saved"}
	}
	if len(claims) > 0 {
		newest := claims[len(claims)-1]
		b.lastClaim = newest.Epoch
		if newest.Node != b.a.cfg.Node {
			if err := b.endedOn(ctx, job.Moved{Node: newest.Node, Addr: newest.Addr}, c); err != nil {
				return err
			}
		}
	}
	known, err := b.a.jobs.Get(b.rec.ID)
	switch {
	case errors.Is(err, job.ErrNotFound):
		return nil
	case err != nil:
		return err
	case known.MovedTo != nil:
		return b.endedOn(ctx, *known.MovedTo, c)
	}
	return b.ended(b.a.view(ctx, known))
}

// claims reads the claims with the caller's own rights: the path is theirs.
func (b *bringing) claims(c caller) (claims []image.Claim, err error) {
	b.owner = c
	err = asCaller(c, func() error {
		claims, err = image.Claims(b.req.Dir)
		return err
	})
	return claims, err
}

func (b *bringing) endedOn(ctx context.Context, node job.Moved, c caller) error {
	now, err := b.a.askAbout(ctx, b.rec.ID, node, c)
	if err != nil {
		return &api.Error{Code: api.Refused, Message: fmt.Sprintf("job %s was last on %s, and nobody can say whether it runs there: %v", b.rec.ID, node.Node, err),
			Hint: fmt.Sprintf("see that the agent of %s answers at %s; if that node is gone for good, remove the newest restored-*.json in %s", node.Node, node.Addr, b.req.Dir)}
	}
	return b.ended(now)
}

func (b *bringing) ended(now api.Job) error {
	switch now.State {
	case api.Exited, api.Saved:
		return nil
	case api.Lost:
		if now.Tasks == 0 {
			return nil
		}
	}
	return &api.Error{Code: api.Refused, Message: fmt.Sprintf("job %s is still alive (%s)", b.rec.ID, now.State), Where: "on " + now.Node,
		Hint: fmt.Sprintf("end it first, with `migrate kill -s KILL %s`", b.rec.ID)}
}

func (b *bringing) run(ctx context.Context) (*api.Result, error) {
	b.tell.enter(api.Preflight, "")
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
	b.rec.Epoch = max(b.rec.Epoch, b.lastClaim, b.a.fence.Highest(string(b.rec.ID))) + 1
	l := newLanding(b.a, string(b.id), b.rec.ID)
	extra, err := json.Marshal(savingExtra{Dir: b.req.Dir})
	if err != nil {
		return err
	}
	rec := handoff.Record{Move: b.id, Job: string(b.rec.ID), Peer: b.a.cfg.Node, Epoch: b.rec.Epoch, BootID: b.a.boot, Extra: extra,
		Since: b.a.arrivesSince(b.rec)}
	if err := b.a.mayArrive(b.rec); err != nil {
		return err
	}
	half := handoff.NewTarget(b.a.journal, b.a.fence, rec, l, b.a.observer(rec, handoff.RoleTarget))
	if err := half.Begin(ctx); err != nil {
		return err
	}
	return b.settle(half, b.bring(ctx, l, half))
}

// bring takes the job out of the directory, claims it and lets it run.
func (b *bringing) bring(ctx context.Context, l *landing, half *handoff.TargetHalf) error {
	if err := b.fetch(ctx, l); err != nil {
		return err
	}
	b.tell.enter(api.Park, "")
	if err := half.Prepare(ctx); err != nil {
		return err
	}
	b.tell.enter(api.Resume, "")
	claim := image.Claim{Node: b.a.cfg.Node, Addr: b.a.publicAddr(), Epoch: b.rec.Epoch, At: time.Now()}
	if err := asCaller(b.owner, func() error { return image.Stake(b.req.Dir, claim, b.lastClaim) }); err != nil {
		return err
	}
	b.staked = true
	return half.Commit(context.WithoutCancel(ctx))
}

// settle undoes a restore that has failed, or finds that the job runs. What cannot be
// done now the agent does as soon as it can.
func (b *bringing) settle(half *handoff.TargetHalf, err error) error {
	if err == nil {
		return nil
	}
	if state := half.State(); state == handoff.StateReceiving || state == handoff.StatePrepared {
		ctx, cancel := context.WithTimeout(b.a.life, undoRestoreTime)
		defer cancel()
		err = errors.Join(err, half.Abort(ctx))
	}
	if half.State().Finished() {
		return errors.Join(err, b.unstake(half))
	}
	b.a.background.Go(func() {
		b.a.insist("a restore waits", b.id, func() error { return errors.Join(b.a.finish(half, givenUp{}), b.unstake(half)) })
	})
	return &api.Error{Code: api.InDoubt, Message: err.Error(), Where: "in " + b.req.Dir + ", saved; or on " + b.a.cfg.Node + ", running",
		Hint: "nothing is lost and nothing runs twice: the agent undoes the restore as soon as it can, unless the job runs already; `migrate moves` and `migrate ps` tell"}
}

// undoRestoreTime is how long a user waits until a restore that has failed is undone.
const undoRestoreTime = time.Minute

func (b *bringing) unstake(half *handoff.TargetHalf) error {
	if !b.staked || half.State() != handoff.StateDropped {
		return nil
	}
	return asCaller(b.owner, func() error { return image.Unstake(b.req.Dir, b.rec.Epoch) })
}

// fetch reads the directory and sets the clocks.
func (b *bringing) fetch(ctx context.Context, l *landing) error {
	b.tell.enter(api.Residue, "")
	if err := l.open(); err != nil {
		return err
	}
	b.tell.know(func() { b.landing = l })
	if err := l.expect(b.rec, false); err != nil {
		return err
	}
	lanes, err := openLanes(b.req.Dir, b.manifest)
	if err != nil {
		return err
	}
	err = l.in.Receive(ctx, lanes.readers)
	if err == nil {
		err = lanes.check()
	}
	if err = errors.Join(err, lanes.close()); err != nil {
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
	c := b.manifest.Clock
	frozen := timens.Reading{Monotonic: c.Mono, Boottime: c.Boot, Realtime: c.Real}
	mono, boot := timens.Continue(frozen, b.mode, now, 0)
	return image.SetClocks(b.landing.images(), mono, boot)
}

func (b *bringing) explain(err error) error {
	where := "in " + b.req.Dir + ", saved"
	var told *api.Error
	if errors.As(err, &told) {
		told.Where = orElse(told.Where, where)
		told.Message = strings.Replace(told.Message, "refused the move", "refused the restore", 1)
		return told
	}
	if errors.Is(err, context.Canceled) {
		return &api.Error{Code: api.Cancelled, Message: "cancelled; the checkpoint is as it was", Where: where}
	}
	return withDiagnosis(&api.Error{Code: api.Failed, Message: err.Error(), Where: where, Hint: "the checkpoint is as it was; remove the cause and try again"}, err)
}

// stood is how long the job has stood still by now.
func (d *departure) stood() time.Duration {
	if d.frozen.IsZero() {
		return 0
	}
	if !d.thawed.IsZero() {
		return d.thawed.Sub(d.frozen)
	}
	return time.Since(d.frozen)
}
