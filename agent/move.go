package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// activeMove is a move that this agent works on as its source.
type activeMove struct{ id handoff.MoveID }

// claim makes sure that a job leaves by one way at a time.
func (a *Agent) claim(id job.ID, m handoff.MoveID) (release func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if other, ok := a.moves[id]; ok {
		return nil, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is being moved already, by %s", id, other.id), Where: "on " + a.cfg.Node, Hint: "wait for its end: `migrate moves` tells how it gets on"}
	}
	a.moves[id] = &activeMove{m}
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.moves, id)
	}), nil
}

func (a *Agent) moving(id job.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.moves[id]
	return ok
}

func (a *Agent) handleMove(w http.ResponseWriter, r *http.Request, _ caller, rec job.Record) error {
	var req api.MoveRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.Node == "" || req.Node == a.cfg.Node {
		return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("job %s is on %s already", rec.ID, a.cfg.Node), Where: "on " + a.cfg.Node, Hint: "name another node: `migrate move JOB NODE`"}
	}
	if req.Eager && req.PostCopy {
		return &api.Error{Code: api.CodeUsage, Message: "eager restores all memory before the job runs, post_copy after", Where: "on " + a.cfg.Node, Hint: "`migrate move --eager` or `migrate move --post-copy`, not both"}
	}
	move := handoff.NewMoveID()
	release, err := a.claim(rec.ID, move)
	if err != nil {
		return err
	}
	defer release()
	m := &movement{a: a, rec: rec, req: req, id: move, addr: a.peerAddr(req.Node, req.Addr), give: func() {}}
	w.Header().Set("Content-Type", "application/x-ndjson")
	m.tell = newAccount(&flusher{w, http.NewResponseController(w)}, rec.ID, string(move), m.sizes)
	m.tell.keep = m.keeper()
	res, err := m.inTurn(r.Context())
	m.tell.end(res, err, m.give, release)
	return nil
}

// inTurn moves the job when not too many others are moving.
func (m *movement) inTurn(ctx context.Context) (*api.Result, error) {
	give, err := m.a.turns.take(ctx, func(others int) { m.tell.enter(api.PhaseQueue, "waiting for "+otherMoves(others)) })
	if err != nil {
		return nil, m.explain(err)
	}
	m.give = sync.OnceFunc(give)
	return m.run(ctx)
}

// movement is one attempt to move a job away from here.
type movement struct {
	a    *Agent
	rec  job.Record
	req  api.MoveRequest
	id   handoff.MoveID
	addr string
	tell *account
	give func() // the turn, to the next in the queue
	// since: see handoff.Record.
	since time.Time
	dep   *departure
	sess  *transport.Session
	// copyOnWrite is memory that the job's processes share, in bytes.
	copyOnWrite int64
	mode        api.Mode
}

func (m *movement) sizes(e *api.Event) {
	e.LowPriority = e.Phase == api.PhaseWarmup && m.a.pace.takesTurns()
	if m.dep != nil {
		e.Read, e.Total, e.Pulled = m.dep.read.Load(), m.dep.total, m.dep.pulled.Load()
	}
	if m.sess != nil {
		e.Sent = m.sess.Sent()
	}
	if m.dep != nil {
		e.Sent += m.dep.pullSent.Load()
	}
}

func (m *movement) keeper() *keeper {
	return &keeper{store: m.a.records, describe: m.describe, begin: api.MoveRecord{Move: string(m.id), Job: m.rec.ID, Name: m.rec.Spec.Name, UID: m.rec.Spec.UID,
		From: m.a.cfg.Node, To: m.req.Node, Epoch: m.rec.Epoch, Options: m.req.MoveOptions, Began: time.Now()}}
}

// unshared says what the move does to memory that processes share by copy-on-write, if
// it is enough for a word.
func (m *movement) unshared() string {
	if m.req.Eager || m.copyOnWrite < 1<<20 || m.copyOnWrite < m.dep.total/20 {
		return ""
	}
	return fmt.Sprintf("%d MiB that processes share by copy-on-write become separate copies; --eager keeps them shared", m.copyOnWrite>>20)
}

// describe adds to the move's record what the account does not see.
func (m *movement) describe(r *api.MoveRecord) {
	r.Epoch, r.Mode = m.rec.Epoch, m.mode
	if m.dep == nil {
		return
	}
	r.Memory, r.CopyOnWrite, r.Lanes, r.Pulled = m.dep.total, m.copyOnWrite, len(m.dep.out), m.dep.pulled.Load()
	if !m.dep.thawed.IsZero() {
		r.Resumed = m.dep.thawed
	}
}

func (m *movement) run(ctx context.Context) (*api.Result, error) {
	m.tell.enter(api.PhasePreflight, "")
	err := m.prepare(ctx)
	if m.sess != nil {
		defer m.sess.Close()
	}
	if m.dep != nil {
		defer m.dep.close()
	}
	if err != nil {
		return nil, m.explain(err)
	}
	m.dep.getReady(ctx)
	m.tell.enter(api.PhaseWarmup, m.unshared())
	if err := m.sendAhead(ctx); err != nil {
		return nil, m.explain(errors.Join(err, m.dep.unthrottle()))
	}
	return m.handOver(ctx)
}

// sendAhead sends what can be sent while the job still runs. A blocked write does
// not see the end of ctx, so that closes the connections under it.
func (m *movement) sendAhead(ctx context.Context) error {
	release := context.AfterFunc(ctx, func() { closeConns(m.sess.Data()) })
	defer release()
	_, err := m.dep.src.Output(ctx, m.dep.out)
	if err == nil {
		err = m.warmUp(ctx)
	}
	switch told := (*api.Error)(nil); {
	case err == nil || errors.As(err, &told):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errors.Join(m.peer().why(ctx), err)
}

// peer is the target's half of this move.
func (m *movement) peer() *remote {
	return &remote{a: m.a, node: m.req.Node, addr: m.addr, move: m.id, session: m.sess, sending: func() delivery { return m.dep.sending },
		prepare: func() prepareRequest {
			return prepareRequest{Move: m.id, Record: m.dep.traveller(), Pull: m.dep.postCopy}
		}}
}

// prepare looks at both sides and asks the target, before anything is touched.
func (m *movement) prepare(ctx context.Context) error {
	if err := m.a.mayBegin(m.rec); err != nil {
		return err
	}
	m.since = untouchedUntil(m.rec)
	dep, err := m.a.departureOf(ctx, m.rec, string(m.id), m.tell)
	if err != nil {
		return err
	}
	m.tell.know(func() { m.dep = dep })
	if m.dep.src.Init == 0 {
		return m.a.notRunning(ctx, m.rec)
	}
	if err := m.a.awaitWhole(ctx, m.rec); err != nil {
		return err
	}
	m.dep.src.Verify, m.dep.src.Eager = m.req.Verify, m.req.Eager
	needs, err := m.dep.mayLeave(ctx)
	if err != nil {
		return err
	}
	m.copyOnWrite = needs.CopyOnWrite
	sess, err := transport.Dial(ctx, m.addr, m.req.Node, m.a.id, 0, transport.WithFeatures(featureIdentity), transport.WithData(func(trip time.Duration) int {
		return connections(m.req.Connections, trip)
	}))
	if err != nil {
		return &api.Error{Code: api.CodeUnreachable, Message: fmt.Sprintf("node %s at %s: %v", m.req.Node, m.addr, err),
			Hint: "see whether its agent runs and this is its address; name another one with `migrate move JOB NODE=HOST:PORT`, or start the agent here with `migrate agent --peer NODE=HOST:PORT`"}
	}
	m.tell.know(func() { m.sess = sess })
	m.dep.out = lanesOf(ctx, m.sess.Data(), m.req.Bandwidth)
	if f := preflight.CheckClocks(m.sess.Skew()); f != nil {
		return refused(asFindings([]preflight.Finding{*f}))
	}
	if m.rec, err = m.a.nextEpoch(m.rec.ID); err != nil {
		return err
	}
	m.dep.rec = m.rec
	return m.offer(ctx, needs)
}

// offerTime is how long a target may look at what it is offered, and end an earlier move
// of the job.
const offerTime = time.Minute

func (m *movement) offer(ctx context.Context, needs preflight.Needs) error {
	ctx, cancel := context.WithTimeoutCause(ctx, offerTime, fmt.Errorf("%s has not said yes or no within %v", m.req.Node, offerTime))
	defer cancel()
	o := offer{Move: m.id, Epoch: m.rec.Epoch, Record: m.rec, Port: m.a.listenPort(), Needs: needs}
	err := ask(ctx, m.sess, sayOffer, o, sayAccept, nil)
	if isAnswer(err) { // it may know a later copy of the job
		m.a.background.Go(func() { m.a.askNewsOf(m.a.life, m.req.Node) })
	}
	return err
}

// afterCommit is how long a user waits for a target that does not confirm. The
// agent goes on alone after that.
const afterCommit = time.Minute

// handOver is everything from the freeze on. Until the commit the end of ctx,
// the user's, aborts it.
func (m *movement) handOver(ctx context.Context) (*api.Result, error) {
	to := &job.Moved{Node: m.req.Node, Addr: m.addr, Epoch: m.rec.Epoch, At: time.Now()}
	m.dep.kind, m.dep.to, m.dep.postCopy = handoff.KindMove, to, m.mode == api.ModePostCopy
	m.dep.src.PostCopy, m.dep.bandwidth = m.dep.postCopy, m.req.Bandwidth
	peer := m.peer()
	m.dep.hangUp, m.dep.why = func() { closeConns(m.sess.Data()) }, peer.why
	rec := handoff.Record{Move: m.id, Kind: handoff.KindMove, Job: string(m.rec.ID), Peer: m.req.Node, PeerAddr: m.addr, Epoch: m.rec.Epoch, BootID: m.a.boot, Since: m.since}

	own, cancel := context.WithCancelCause(m.a.life)
	defer cancel(nil)
	follow := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer follow()
	confirm := time.AfterFunc(math.MaxInt64, func() { cancel(errors.New("the target did not confirm in time")) })
	defer confirm.Stop()
	downtime := m.watch(peer, confirm)
	defer m.a.pace.urgent()()
	engine := m.a.engine()
	engine.Observe = func(rec handoff.Record) {
		m.a.observe(rec)
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
func (m *movement) watch(peer *remote, confirm *time.Timer) func() time.Duration {
	var ran time.Time
	peer.ran = func() {
		confirm.Stop()
		ran = time.Now()
		m.tell.enter(api.PhaseResume, "")
		if m.mode == api.ModePostCopy { // a target that goes away while it pulls holds up no other move
			m.give()
		}
	}
	return func() time.Duration {
		if ran.IsZero() || m.dep.frozen.IsZero() {
			return 0
		}
		return ran.Sub(m.dep.frozen)
	}
}

func (m *movement) conclude(outcome handoff.Outcome, err error, downtime time.Duration) (*api.Result, error) {
	res := &api.Result{Job: m.rec.ID, Move: string(m.id), Node: m.req.Node, Epoch: m.rec.Epoch, Downtime: downtime, Mode: m.mode}
	if outcome == handoff.OutcomeMoved {
		return res, nil
	}
	m.a.pursueLater(m.id)
	if outcome == handoff.OutcomeUnclean {
		res.CleanupLeft = err.Error()
		return res, nil
	}
	return nil, m.explain(err)
}

// explain says what an error of a move means for the job.
func (m *movement) explain(err error) error {
	here := "on " + m.a.cfg.Node + ", running"
	var told *api.Error
	by, held := checkpoint.AsSuspended(err)
	switch {
	case held && errors.Is(err, handoff.ErrInDoubt) && !errors.Is(err, handoff.ErrUnsure):
		return &api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "on " + m.a.cfg.Node + ", suspended", Hint: by.ResumeHint()}
	case errors.Is(err, handoff.ErrInDoubt):
		return &api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "frozen on " + m.a.cfg.Node + ", or running on " + m.req.Node,
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
	return m.dep.aborted(err, here, "nothing was lost; remove the cause and move it again with `migrate move`")
}
