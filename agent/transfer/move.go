package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// Move moves a job away. begun is called once it is sure that it is tried, and is told how it
// gets on and ends; what Move returns comes before.
func (a *Transfers) Move(ctx context.Context, rec job.Record, req api.MoveRequest, begun func() io.Writer) error {
	move := handoff.NewMoveID()
	release, err := a.Leaving.Claim(rec.ID, move)
	if err != nil {
		return err
	}
	defer release()
	m := &moveOp{a: a, rec: rec, req: req, id: move, addr: a.Peers.AddrOf(req.Node, req.Addr), give: func() {}}
	m.tell = progress.New(begun(), rec.ID, string(move), m.sizes)
	m.tell.Recorder = m.recorder()
	res, err := m.inTurn(ctx)
	m.tell.End(res, err, m.give, release)
	return nil
}

// inTurn moves the job when not too many others are moving.
func (m *moveOp) inTurn(ctx context.Context) (*api.Result, error) {
	give, err := m.a.queue.take(ctx, func(others int) { m.tell.Enter(api.PhaseQueue, "waiting for "+otherMoves(others)) })
	if err != nil {
		return nil, m.explain(err)
	}
	m.give = sync.OnceFunc(give)
	return m.run(ctx)
}

func (m *moveOp) run(ctx context.Context) (*api.Result, error) {
	m.tell.Enter(api.PhasePreflight, "")
	err := m.prepare(ctx)
	if m.sess != nil {
		defer m.sess.Close()
	}
	if m.dep != nil {
		defer m.dep.Close()
	}
	if err != nil {
		return nil, m.explain(err)
	}
	m.dep.PrepareDump(ctx)
	m.tell.Enter(api.PhaseWarmup, m.changes())
	if err := m.sendAhead(ctx); err != nil {
		return nil, m.explain(errors.Join(err, m.dep.Unthrottle()))
	}
	if err := m.dep.CheckAgain(ctx); err != nil {
		return nil, m.explain(errors.Join(err, m.dep.Unthrottle()))
	}
	return m.handOver(ctx)
}

// sendAhead sends what can be sent while the job still runs. A blocked write does
// not see the end of ctx, so that closes the connections under it.
func (m *moveOp) sendAhead(ctx context.Context) error {
	release := context.AfterFunc(ctx, func() { target.CloseConns(m.sess.Data()) })
	defer release()
	_, err := m.dep.Src.Output(ctx, m.dep.Out)
	if err == nil {
		err = m.warmUp(ctx)
	}
	switch told := (*api.Error)(nil); {
	case err == nil || errors.As(err, &told):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errors.Join(m.peer().Why(ctx), err)
}

// prepare looks at both sides and asks the target, before anything is touched.
func (m *moveOp) prepare(ctx context.Context) error {
	if err := m.a.CheckMovable(m.rec); err != nil {
		return err
	}
	m.since = node.EarliestMove(m.rec)
	dep, err := m.a.Sources.JobOf(ctx, m.rec, string(m.id), m.tell)
	if err != nil {
		return err
	}
	m.tell.Update(func() { m.dep = dep })
	if m.dep.Src.Init == 0 {
		return m.a.NotRunning(ctx, m.rec)
	}
	if err := m.a.Targets.AwaitMemory(ctx, m.rec); err != nil {
		return err
	}
	m.dep.Src.Verify, m.dep.Src.Eager, m.dep.Src.Affinity = m.req.Verify, m.req.Eager, m.req.Affinity
	needs, err := m.dep.CheckLeave(ctx)
	if err != nil {
		return err
	}
	m.copyOnWrite = needs.CopyOnWrite
	m.place.Bound, m.place.Mode = needs.CPUs, m.req.Affinity
	sess, err := transport.Dial(ctx, m.addr, m.req.Node, m.a.Identity, 0, transport.WithFeatures(peer.FeatureIdentity, peer.FeatureThreads, peer.FeatureRecheck, peer.FeatureNested), transport.WithData(func(trip time.Duration) int {
		return source.Connections(m.req.Connections, trip)
	}))
	if err != nil {
		return &api.Error{Code: api.CodeUnreachable, Message: fmt.Sprintf("node %s at %s: %v", m.req.Node, m.addr, err),
			Hint: "see whether its agent runs and this is its address; name another one with `migrate move JOB NODE=HOST:PORT`, or start the agent here with `migrate agent --peer NODE=HOST:PORT`"}
	}
	m.tell.Update(func() { m.sess = sess })
	m.dep.Out = source.LanesOf(ctx, m.sess.Data(), m.req.Bandwidth)
	if slices.Contains(m.sess.Features(), peer.FeatureRecheck) {
		m.dep.AskFiles = m.peer().AskFiles
	}
	for _, f := range []*preflight.Finding{preflight.CheckClocks(m.sess.Skew()), preflight.CheckBinding(needs, m.targetBinds())} {
		if f != nil {
			return peer.Refused(source.AsFindings([]preflight.Finding{*f}))
		}
	}
	if f := preflight.CheckNested(needs, slices.Contains(m.sess.Features(), peer.FeatureNested), m.req.Node); f != nil {
		return peer.Refused(source.AsFindings([]preflight.Finding{*f}))
	}
	if m.rec, err = m.a.nextEpoch(m.rec.ID); err != nil {
		return err
	}
	m.dep.Rec = m.rec
	err = m.offer(ctx, needs)
	for range source.Looks - 1 {
		if !source.AreFleeting(err) {
			break
		}
		if needs, err = m.dep.CheckLeave(ctx); err != nil {
			break
		}
		err = m.offer(ctx, needs)
	}
	return err
}

// offerTime is how long a target may look at what it is offered, and end an earlier move
// of the job.
const offerTime = time.Minute

func (m *moveOp) offer(ctx context.Context, needs preflight.Needs) error {
	ctx, cancel := context.WithTimeoutCause(ctx, offerTime, fmt.Errorf("%s has not said yes or no within %v", m.req.Node, offerTime))
	defer cancel()
	o := peer.Offer{Move: m.id, Epoch: m.rec.Epoch, Record: m.rec, Port: m.a.Peers.ListenPort(), Needs: needs}
	var accepted peer.Acceptance
	var into any
	if m.targetBinds() {
		into = &accepted
	}
	err := peer.Ask(ctx, m.sess, peer.SayOffer, o, peer.SayAccept, into)
	m.place.Given = accepted.CPUs
	if peer.IsAnswer(err) { // it may know a later copy of the job
		m.a.Background.Go(func() { m.a.Copies.AskNewsOf(m.a.Life, m.req.Node) })
	}
	return err
}

// afterCommit is how long a user waits for a target that does not confirm. The
// agent goes on alone after that.
const afterCommit = time.Minute

// handOver is everything from the freeze on. Until the commit the end of ctx,
// the user's, aborts it.
func (m *moveOp) handOver(ctx context.Context) (*api.Result, error) {
	to := &job.Moved{Node: m.req.Node, Addr: m.addr, Epoch: m.rec.Epoch, At: time.Now()}
	m.dep.Kind, m.dep.To, m.dep.PostCopy = handoff.KindMove, to, m.mode == api.ModePostCopy
	m.dep.Src.PostCopy, m.dep.Bandwidth = m.dep.PostCopy, m.req.Bandwidth
	peer := m.peer()
	m.dep.HangUp, m.dep.AskWhy = func() { target.CloseConns(m.sess.Data()) }, peer.Why
	rec := handoff.Record{Move: m.id, Kind: handoff.KindMove, Job: string(m.rec.ID), Peer: m.req.Node, PeerAddr: m.addr, Epoch: m.rec.Epoch, BootID: m.a.Boot, Since: m.since}

	own, cancel := context.WithCancelCause(m.a.Life)
	defer cancel(nil)
	follow := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer follow()
	confirm := time.AfterFunc(math.MaxInt64, func() { cancel(errors.New("the target did not confirm in time")) })
	defer confirm.Stop()
	downtime := m.watch(peer, confirm)
	defer m.a.Priority.Urgent()()
	engine := m.a.Arrivals.engine()
	engine.Observe = func(rec handoff.Record) {
		m.a.Arrivals.observe(rec)
		if rec.State == handoff.StateCommitted {
			follow()
			confirm.Reset(afterCommit)
		}
	}
	outcome, err := engine.RunSource(own, rec, m.dep, peer)
	return m.conclude(outcome, err, downtime())
}

// watch measures the downtime, from the freeze to the target's word that the
// job runs.
func (m *moveOp) watch(peer *peer.Client, confirm *time.Timer) func() time.Duration {
	var ran time.Time
	peer.OnRunning = func() {
		confirm.Stop()
		ran = time.Now()
		m.tell.Enter(api.PhaseResume, "")
		if m.mode == api.ModePostCopy { // a target that goes away while it pulls holds up no other move
			m.give()
		}
	}
	return func() time.Duration {
		if ran.IsZero() || m.dep.Frozen.IsZero() {
			return 0
		}
		return ran.Sub(m.dep.Frozen)
	}
}

func (m *moveOp) conclude(outcome handoff.Outcome, err error, downtime time.Duration) (*api.Result, error) {
	res := &api.Result{Job: m.rec.ID, Move: string(m.id), Node: m.req.Node, Epoch: m.rec.Epoch, Downtime: downtime, Mode: m.mode}
	if outcome == handoff.OutcomeMoved {
		return res, nil
	}
	m.a.Recovery.pursueLater(m.id)
	if outcome == handoff.OutcomeUnclean {
		res.CleanupLeft = err.Error()
		return res, nil
	}
	return nil, m.explain(err)
}

// explain says what an error of a move means for the job.
func (m *moveOp) explain(err error) error {
	here := "on " + m.a.Config.Node + ", running"
	var told *api.Error
	by, held := checkpoint.AsSuspended(err)
	switch ended := m.a.ended(m.rec.ID, err); {
	case ended != nil:
		return ended
	case held && errors.Is(err, handoff.ErrInDoubt) && !errors.Is(err, handoff.ErrUnsure):
		return &api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "on " + m.a.Config.Node + ", suspended", Hint: by.ResumeHint()}
	case errors.Is(err, handoff.ErrInDoubt):
		return &api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "frozen on " + m.a.Config.Node + ", or running on " + m.req.Node,
			Hint: "nothing is lost and nothing runs twice: the agents go on by themselves as soon as they reach each other; `migrate moves` tells what it waits for, and `migrate resolve " + string(m.id) +
				" --take|--drop` decides if " + m.req.Node + " is gone for good"}
	case errors.Is(err, context.Canceled):
		return &api.Error{Code: api.CodeCancelled, Message: "cancelled; the job was not moved", Where: here}
	case errors.As(err, &told):
		if told.Where == "" && told.Code != api.CodeFailed {
			told.Where = here
		}
		return told
	}
	return m.dep.AbortError(err, here, "nothing was lost; remove the cause and move it again with `migrate move`")
}
