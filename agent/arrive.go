package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// arrival is a move whose target is this node.
type arrival struct {
	half    *handoff.TargetHalf
	landing *landing
	source  handoff.Asker
}

// acceptMoves talks to every peer that opens a session.
func (a *Agent) acceptMoves(ctx context.Context, l *transport.Listener) error {
	for {
		s, err := l.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		a.background.Go(func() {
			defer s.Close()
			stop := context.AfterFunc(ctx, func() { _ = s.Close() })
			defer stop()
			a.converse(ctx, s)
		})
	}
}

// converse answers a peer until it hangs up. If it does so in the middle of a
// move, that decides nothing; the move's half sorts it out.
func (a *Agent) converse(ctx context.Context, s *transport.Session) {
	var current *arrival
	for {
		wait := idleTime
		if current != nil {
			wait = 0 // memory may come for hours before the next word
		}
		s.SetRecvTimeout(wait)
		m, err := s.RecvContext(ctx)
		if err != nil {
			break
		}
		var answer transport.Message
		switch {
		case m.Type == sayOffer && current == nil:
			current, answer, err = a.consider(ctx, s, m)
		case m.Type == sayPull:
			answer, err = a.relay(ctx, s, m)
		default:
			answer, err = a.answer(ctx, s, m)
		}
		if err != nil {
			a.log.Warn("a peer's request failed", "peer", s.Peer(), "request", m.Type, "err", err)
			err = s.SendError(toTell(err))
		} else {
			err = s.Send(answer)
		}
		if err != nil {
			break
		}
	}
	if current != nil {
		a.background.Go(func() {
			a.insist("a move waits", current.half.Record().Move, func() error { return a.onCut(ctx, current) })
		})
	}
}

// toTell gives an error of ours the form in which it crosses to the peer.
func toTell(err error) error {
	if errors.Is(err, handoff.ErrUnknownMove) {
		return &transport.Error{Code: codeUnknownMove, Message: err.Error()}
	}
	if errors.Is(err, handoff.ErrTaken) {
		return &transport.Error{Code: codeTaken, Message: err.Error()}
	}
	e := asError(err)
	if e.Code == api.CodeFailed {
		e = withDiagnosis(&api.Error{Code: api.CodeFailed, Message: err.Error(), Hint: e.Hint}, err)
	}
	return &transport.Error{Code: string(e.Code), Message: e.Message, Hint: e.Hint}
}

// onCut is for a session that ended while its move was not finished.
func (a *Agent) onCut(ctx context.Context, arr *arrival) error {
	if arr.half.State().Finished() {
		return nil
	}
	return arr.half.Cut(ctx, arr.source)
}

// finish goes on with a move that has failed half way on this node, as after a restart.
func (a *Agent) finish(half *handoff.TargetHalf, source handoff.Asker) error {
	if half.State().Finished() {
		return nil
	}
	return half.Recover(a.life, source)
}

func (a *Agent) finishLater(arr *arrival) {
	a.background.Go(func() {
		a.insist("a move waits", arr.half.Record().Move, func() error { return a.finish(arr.half, arr.source) })
	})
}

func (a *Agent) remoteOf(rec handoff.Record) *remote {
	return &remote{a: a, node: rec.Peer, addr: rec.PeerAddr, move: rec.Move}
}

// consider decides about an offer. What it refuses has touched nothing.
func (a *Agent) consider(ctx context.Context, s *transport.Session, m transport.Message) (*arrival, transport.Message, error) {
	var o offer
	if err := m.Decode(&o); err != nil {
		return nil, transport.Message{}, err
	}
	if err := checkOffer(o); err != nil {
		return nil, transport.Message{}, err
	}
	findings, err := a.examine(ctx, o.Needs, o.Record)
	if err != nil {
		return nil, transport.Message{}, err
	}
	taken, err := a.keepIDs(o.Move, o.Record)
	if err != nil {
		return nil, transport.Message{}, err
	}
	if findings = append(findings, taken...); len(findings) > 0 {
		a.ids.letGo(string(o.Move))
		answer, err := transport.NewMessage(sayRefuse, refusal{asFindings(findings)})
		return nil, answer, err
	}
	if err := a.newer(ctx, s.Peer(), backAddr(s, o.Port), o); err != nil {
		a.ids.letGo(string(o.Move))
		return nil, transport.Message{}, err
	}
	arr, err := a.begin(ctx, s, o)
	if err != nil {
		if a.arrivalOf(o.Move) == nil { // else until that is finished
			a.ids.letGo(string(o.Move))
		}
		return nil, transport.Message{}, err
	}
	answer, err := transport.NewMessage(sayAccept, nil)
	return arr, answer, err
}

func checkOffer(o offer) error {
	if _, err := handoff.ParseMoveID(string(o.Move)); err != nil {
		return err
	}
	if _, err := job.ParseID(string(o.Record.ID)); err != nil {
		return err
	}
	if o.Port < 1 || o.Port > 65535 {
		return fmt.Errorf("port %d", o.Port)
	}
	return o.Record.Validate()
}

func (a *Agent) examine(ctx context.Context, needs preflight.Needs, rec job.Record) ([]preflight.Finding, error) {
	node, err := a.asTarget()
	if err != nil {
		return nil, err
	}
	findings, err := preflight.CheckNode(ctx, needs, rec, node)
	if err == nil && len(findings) == 0 { // what is missing has been told
		findings = append(unreachable(rec.Spec), a.quotaOf(rec)...)
	}
	return findings, err
}

// begin admits the move and starts to receive.
func (a *Agent) begin(ctx context.Context, s *transport.Session, o offer) (*arrival, error) {
	l := newLanding(a, string(o.Move), o.Record.ID)
	l.offered = &o.Record
	l.recorded = slices.Contains(s.Features(), featureIdentity)
	rec := handoff.Record{Move: o.Move, Kind: handoff.KindMove, Job: string(o.Record.ID), Peer: s.Peer(), PeerAddr: backAddr(s, o.Port), Epoch: o.Epoch, BootID: a.boot,
		Since: a.arrivesSince(o.Record)}
	if err := a.mayArrive(o.Record); err != nil {
		return nil, err
	}
	arr := &arrival{landing: l, half: a.engine().NewTarget(rec, l), source: a.remoteOf(rec)}
	a.settleEarlier(ctx, o.Record.ID)
	if err := arr.half.Begin(ctx); err != nil {
		return nil, err
	}
	err := l.open()
	if err == nil {
		err = l.admit(o.Record)
	}
	if err != nil {
		if err = errors.Join(err, arr.half.Abort(ctx)); !arr.half.State().Finished() {
			a.know(arr)
			a.finishLater(arr)
		}
		return nil, err
	}
	l.in.OutputLimit = o.Record.Spec.OutputLimit
	if _, err := l.makeRoom(ctx, o.Record); err != nil {
		a.log.Info("room for a job is made later", "job", l.job, "move", o.Move, "err", err)
	}
	l.receive(ctx, s.Data())
	a.know(arr)
	return arr, nil
}

// know has others find an arrival, until it is finished.
func (a *Agent) know(arr *arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arrivals[arr.half.Record().Move] = arr
}

// settleTime is how long an offer waits for an earlier move to be sorted out.
const settleTime = 8 * time.Second

// settleEarlier ends earlier moves of a job that is offered again: its source has
// given them up, which this node need not have heard yet when the link was cut.
func (a *Agent) settleEarlier(ctx context.Context, id job.ID) {
	a.mu.Lock()
	var earlier []*arrival
	for _, arr := range a.arrivals {
		if arr.landing.job == id {
			earlier = append(earlier, arr)
		}
	}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, arr := range earlier {
		if err := a.onCut(ctx, arr); err != nil {
			a.log.Error("an earlier move of the job waits", "move", arr.half.Record().Move, "err", err)
		}
	}
}

// engine performs the moves of this node.
func (a *Agent) engine() handoff.Engine {
	return handoff.Engine{Journal: a.journal, Fence: a.fence, Boot: a.boot, Observe: a.observe}
}

// observe is told each record of a move once it is on the disk.
func (a *Agent) observe(rec handoff.Record) {
	a.log.Info("move", "job", rec.Job, "move", rec.Move, "kind", rec.Kind, "peer", rec.Peer, "role", rec.Role, "epoch", rec.Epoch, "state", rec.State)
	if rec.State.Finished() {
		a.forget(rec.Move)
	}
}

func (a *Agent) forget(m handoff.MoveID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.arrivals, m)
	a.ids.letGo(string(m))
}

// answer carries out a word about a move that is known here.
func (a *Agent) answer(ctx context.Context, s *transport.Session, m transport.Message) (transport.Message, error) {
	var ref moveRef
	if err := m.Decode(&ref); err != nil {
		return transport.Message{}, err
	}
	if m.Type == sayYield {
		return said(sayYielded, a.yield(ctx, s.Peer(), ref.Move))
	}
	state, err := a.journal.Answer(ref.Move, s.Peer())
	if err != nil {
		return transport.Message{}, err
	}
	if m.Type == sayOutcome {
		return transport.NewMessage(sayState, stateReply{state, a.cannotDecide(ref.Move)})
	}
	arr := a.arrivalOf(ref.Move)
	if arr == nil {
		return a.answerFinished(m.Type, state)
	}
	switch m.Type {
	case sayWhy:
		return said(sayNothing, arr.landing.why())
	case sayPrepare:
		var p prepareRequest
		if err := m.Decode(&p); err != nil {
			return transport.Message{}, err
		}
		if err := arr.landing.expect(p.Record, p.Pull); err != nil {
			return transport.Message{}, err
		}
		return said(sayPrepared, arr.half.Prepare(ctx))
	case sayCommit:
		return said(sayRunning, arr.half.Commit(ctx))
	case sayAbort:
		return said(sayAborted, arr.half.Abort(ctx))
	}
	return transport.Message{}, fmt.Errorf("%q is nothing that this agent understands", m.Type)
}

// answerFinished answers for a move that is over here: words may come twice.
func (a *Agent) answerFinished(kind string, state handoff.State) (transport.Message, error) {
	switch {
	case kind == sayCommit && state == handoff.StateDone:
		return said(sayRunning, nil)
	case kind == sayAbort && state == handoff.StateDropped:
		return said(sayAborted, nil)
	}
	return transport.Message{}, fmt.Errorf("%q comes too late: the move is %s here", kind, state)
}

func said(kind string, err error) (transport.Message, error) {
	if err != nil {
		return transport.Message{}, err
	}
	return transport.NewMessage(kind, nil)
}

func (a *Agent) arrivalOf(m handoff.MoveID) *arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.arrivals[m]
}
