package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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
	release, err := a.Claim(rec.ID, move)
	if err != nil {
		return err
	}
	defer release()
	m := &MoveOp{A: a, Rec: rec, Req: req, ID: move, Addr: a.Peers.PeerAddr(req.Node, req.Addr), Give: func() {}}
	m.Tell = progress.New(begun(), rec.ID, string(move), m.Sizes)
	m.Tell.Keep = m.Keeper()
	res, err := m.InTurn(ctx)
	m.Tell.End(res, err, m.Give, release)
	return nil
}

// InTurn moves the job when not too many others are moving.
func (m *MoveOp) InTurn(ctx context.Context) (*api.Result, error) {
	give, err := m.A.queue.take(ctx, func(others int) { m.Tell.Enter(api.PhaseQueue, "waiting for "+otherMoves(others)) })
	if err != nil {
		return nil, m.explain(err)
	}
	m.Give = sync.OnceFunc(give)
	return m.run(ctx)
}

// MoveOp is one attempt to move a job away from here.
type MoveOp struct {
	A    *Transfers
	Rec  job.Record
	Req  api.MoveRequest
	ID   handoff.MoveID
	Addr string
	Tell *progress.Progress
	Give func() // the turn, to the next in the queue
	// since: see handoff.Record.
	since time.Time
	Dep   *source.Job
	Sess  *transport.Session
	// copyOnWrite is memory that the job's processes share, in bytes.
	copyOnWrite int64
	Mode        api.Mode
}

func (m *MoveOp) Sizes(e *api.Event) {
	e.LowPriority = e.Phase == api.PhaseWarmup && m.A.Priority.TakesTurns()
	if m.Dep != nil {
		e.Read, e.Total, e.Pulled = m.Dep.Read.Load(), m.Dep.Total, m.Dep.Pulled.Load()
	}
	if m.Sess != nil {
		e.Sent = m.Sess.Sent()
	}
	if m.Dep != nil {
		e.Sent += m.Dep.PullSent.Load()
	}
}

func (m *MoveOp) Keeper() *progress.Recorder {
	return &progress.Recorder{Store: m.A.Records, Describe: m.describe, Begin: api.MoveRecord{Move: string(m.ID), Job: m.Rec.ID, Name: m.Rec.Spec.Name, UID: m.Rec.Spec.UID,
		From: m.A.Config.Node, To: m.Req.Node, Epoch: m.Rec.Epoch, Options: m.Req.MoveOptions, Began: time.Now()}}
}

// unshared says what the move does to memory that processes share by copy-on-write, if
// it is enough for a word.
func (m *MoveOp) unshared() string {
	if m.Req.Eager || m.copyOnWrite < 1<<20 || m.copyOnWrite < m.Dep.Total/20 {
		return ""
	}
	return fmt.Sprintf("%d MiB that processes share by copy-on-write become separate copies; --eager keeps them shared", m.copyOnWrite>>20)
}

// describe adds to the move's record what the account does not see.
func (m *MoveOp) describe(r *api.MoveRecord) {
	r.Epoch, r.Mode = m.Rec.Epoch, m.Mode
	if m.Dep == nil {
		return
	}
	r.Memory, r.CopyOnWrite, r.Lanes, r.Pulled = m.Dep.Total, m.copyOnWrite, len(m.Dep.Out), m.Dep.Pulled.Load()
	if !m.Dep.Thawed.IsZero() {
		r.Resumed = m.Dep.Thawed
	}
}

func (m *MoveOp) run(ctx context.Context) (*api.Result, error) {
	m.Tell.Enter(api.PhasePreflight, "")
	err := m.prepare(ctx)
	if m.Sess != nil {
		defer m.Sess.Close()
	}
	if m.Dep != nil {
		defer m.Dep.Close()
	}
	if err != nil {
		return nil, m.explain(err)
	}
	m.Dep.GetReady(ctx)
	m.Tell.Enter(api.PhaseWarmup, m.unshared())
	if err := m.sendAhead(ctx); err != nil {
		return nil, m.explain(errors.Join(err, m.Dep.Unthrottle()))
	}
	return m.handOver(ctx)
}

// sendAhead sends what can be sent while the job still runs. A blocked write does
// not see the end of ctx, so that closes the connections under it.
func (m *MoveOp) sendAhead(ctx context.Context) error {
	release := context.AfterFunc(ctx, func() { target.CloseConns(m.Sess.Data()) })
	defer release()
	_, err := m.Dep.Src.Output(ctx, m.Dep.Out)
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

// peer is the target's half of this move.
func (m *MoveOp) peer() *peer.Client {
	return &peer.Client{A: m.A.Node, Node: m.Req.Node, Addr: m.Addr, Move: m.ID, Session: m.Sess, Sending: func() peer.Delivery { return m.Dep.Sending },
		Request: func() peer.PrepareRequest {
			return peer.PrepareRequest{Move: m.ID, Record: m.Dep.Traveller(), Pull: m.Dep.PostCopy}
		}}
}

// prepare looks at both sides and asks the target, before anything is touched.
func (m *MoveOp) prepare(ctx context.Context) error {
	if err := m.A.MayBegin(m.Rec); err != nil {
		return err
	}
	m.since = node.UntouchedUntil(m.Rec)
	dep, err := m.A.Sources.JobOf(ctx, m.Rec, string(m.ID), m.Tell)
	if err != nil {
		return err
	}
	m.Tell.Know(func() { m.Dep = dep })
	if m.Dep.Src.Init == 0 {
		return m.A.NotRunning(ctx, m.Rec)
	}
	if err := m.A.Targets.AwaitWhole(ctx, m.Rec); err != nil {
		return err
	}
	m.Dep.Src.Verify, m.Dep.Src.Eager = m.Req.Verify, m.Req.Eager
	needs, err := m.Dep.MayLeave(ctx)
	if err != nil {
		return err
	}
	m.copyOnWrite = needs.CopyOnWrite
	sess, err := transport.Dial(ctx, m.Addr, m.Req.Node, m.A.Identity, 0, transport.WithFeatures(peer.FeatureIdentity), transport.WithData(func(trip time.Duration) int {
		return source.Connections(m.Req.Connections, trip)
	}))
	if err != nil {
		return &api.Error{Code: api.CodeUnreachable, Message: fmt.Sprintf("node %s at %s: %v", m.Req.Node, m.Addr, err),
			Hint: "see whether its agent runs and this is its address; name another one with `migrate move JOB NODE=HOST:PORT`, or start the agent here with `migrate agent --peer NODE=HOST:PORT`"}
	}
	m.Tell.Know(func() { m.Sess = sess })
	m.Dep.Out = source.LanesOf(ctx, m.Sess.Data(), m.Req.Bandwidth)
	if f := preflight.CheckClocks(m.Sess.Skew()); f != nil {
		return peer.Refused(source.AsFindings([]preflight.Finding{*f}))
	}
	if m.Rec, err = m.A.nextEpoch(m.Rec.ID); err != nil {
		return err
	}
	m.Dep.Rec = m.Rec
	return m.Offer(ctx, needs)
}

// offerTime is how long a target may look at what it is offered, and end an earlier move
// of the job.
const offerTime = time.Minute

func (m *MoveOp) Offer(ctx context.Context, needs preflight.Needs) error {
	ctx, cancel := context.WithTimeoutCause(ctx, offerTime, fmt.Errorf("%s has not said yes or no within %v", m.Req.Node, offerTime))
	defer cancel()
	o := peer.Offer{Move: m.ID, Epoch: m.Rec.Epoch, Record: m.Rec, Port: m.A.Peers.ListenPort(), Needs: needs}
	err := peer.Ask(ctx, m.Sess, peer.SayOffer, o, peer.SayAccept, nil)
	if peer.IsAnswer(err) { // it may know a later copy of the job
		m.A.Background.Go(func() { m.A.Copies.AskNewsOf(m.A.Life, m.Req.Node) })
	}
	return err
}

// afterCommit is how long a user waits for a target that does not confirm. The
// agent goes on alone after that.
const afterCommit = time.Minute

// handOver is everything from the freeze on. Until the commit the end of ctx,
// the user's, aborts it.
func (m *MoveOp) handOver(ctx context.Context) (*api.Result, error) {
	to := &job.Moved{Node: m.Req.Node, Addr: m.Addr, Epoch: m.Rec.Epoch, At: time.Now()}
	m.Dep.Kind, m.Dep.To, m.Dep.PostCopy = handoff.KindMove, to, m.Mode == api.ModePostCopy
	m.Dep.Src.PostCopy, m.Dep.Bandwidth = m.Dep.PostCopy, m.Req.Bandwidth
	peer := m.peer()
	m.Dep.HangUp, m.Dep.Why = func() { target.CloseConns(m.Sess.Data()) }, peer.Why
	rec := handoff.Record{Move: m.ID, Kind: handoff.KindMove, Job: string(m.Rec.ID), Peer: m.Req.Node, PeerAddr: m.Addr, Epoch: m.Rec.Epoch, BootID: m.A.Boot, Since: m.since}

	own, cancel := context.WithCancelCause(m.A.Life)
	defer cancel(nil)
	follow := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer follow()
	confirm := time.AfterFunc(math.MaxInt64, func() { cancel(errors.New("the target did not confirm in time")) })
	defer confirm.Stop()
	downtime := m.Watch(peer, confirm)
	defer m.A.Priority.Urgent()()
	engine := m.A.Arrivals.engine()
	engine.Observe = func(rec handoff.Record) {
		m.A.Arrivals.observe(rec)
		if rec.State == handoff.StateCommitted {
			follow()
			confirm.Reset(afterCommit)
		}
	}
	outcome, err := engine.RunSource(own, rec, m.Dep, peer)
	return m.conclude(outcome, err, downtime())
}

// Watch measures the downtime, from the freeze to the target's word that the
// job runs.
func (m *MoveOp) Watch(peer *peer.Client, confirm *time.Timer) func() time.Duration {
	var ran time.Time
	peer.Ran = func() {
		confirm.Stop()
		ran = time.Now()
		m.Tell.Enter(api.PhaseResume, "")
		if m.Mode == api.ModePostCopy { // a target that goes away while it pulls holds up no other move
			m.Give()
		}
	}
	return func() time.Duration {
		if ran.IsZero() || m.Dep.Frozen.IsZero() {
			return 0
		}
		return ran.Sub(m.Dep.Frozen)
	}
}

func (m *MoveOp) conclude(outcome handoff.Outcome, err error, downtime time.Duration) (*api.Result, error) {
	res := &api.Result{Job: m.Rec.ID, Move: string(m.ID), Node: m.Req.Node, Epoch: m.Rec.Epoch, Downtime: downtime, Mode: m.Mode}
	if outcome == handoff.OutcomeMoved {
		return res, nil
	}
	m.A.Recovery.pursueLater(m.ID)
	if outcome == handoff.OutcomeUnclean {
		res.CleanupLeft = err.Error()
		return res, nil
	}
	return nil, m.explain(err)
}

// explain says what an error of a move means for the job.
func (m *MoveOp) explain(err error) error {
	here := "on " + m.A.Config.Node + ", running"
	var told *api.Error
	by, held := checkpoint.AsSuspended(err)
	switch {
	case held && errors.Is(err, handoff.ErrInDoubt) && !errors.Is(err, handoff.ErrUnsure):
		return &api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "on " + m.A.Config.Node + ", suspended", Hint: by.ResumeHint()}
	case errors.Is(err, handoff.ErrInDoubt):
		return &api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "frozen on " + m.A.Config.Node + ", or running on " + m.Req.Node,
			Hint: "nothing is lost and nothing runs twice: the agents go on by themselves as soon as they reach each other; `migrate moves` tells what it waits for, and `migrate resolve " + string(m.ID) +
				" --take|--drop` decides if " + m.Req.Node + " is gone for good"}
	case errors.Is(err, context.Canceled):
		return &api.Error{Code: api.CodeCancelled, Message: "cancelled; the job was not moved", Where: here}
	case errors.As(err, &told):
		if told.Where == "" && told.Code != api.CodeFailed {
			told.Where = here
		}
		return told
	}
	return m.Dep.Aborted(err, here, "nothing was lost; remove the cause and move it again with `migrate move`")
}
