package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// Arrival is a move whose target is this node.
type Arrival struct {
	half    *handoff.TargetHalf
	landing *target.Job
	source  handoff.Asker
}

// AcceptMoves talks to every peer that opens a session.
func (a *Arrivals) AcceptMoves(ctx context.Context, l *transport.Listener) error {
	for {
		s, err := l.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		a.Background.Go(func() {
			defer s.Close()
			stop := context.AfterFunc(ctx, func() { _ = s.Close() })
			defer stop()
			a.converse(ctx, s)
		})
	}
}

// converse answers a peer until it hangs up. If it does so in the middle of a
// move, that decides nothing; the move's half sorts it out.
func (a *Arrivals) converse(ctx context.Context, s *transport.Session) {
	var current *Arrival
	for {
		wait := peer.IdleTime
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
		case m.Type == peer.SayOffer && current == nil:
			current, answer, err = a.consider(ctx, s, m)
		case m.Type == peer.SayPull:
			answer, err = a.Relay(ctx, s, m)
		default:
			answer, err = a.Answer(ctx, s, m)
		}
		if err != nil {
			a.Log.Warn("a peer's request failed", logkey.Peer, s.Peer(), logkey.Request, m.Type, logkey.Err, err)
			err = s.SendError(toTell(err))
		} else {
			err = s.Send(answer)
		}
		if err != nil {
			break
		}
	}
	if current != nil {
		a.Background.Go(func() {
			a.Recovery.insist("a move waits", current.half.Record().Move, func() error { return a.onCut(ctx, current) })
		})
	}
}

// toTell gives an error of ours the form in which it crosses to the peer.
func toTell(err error) error {
	if errors.Is(err, handoff.ErrUnknownMove) {
		return &transport.Error{Code: peer.CodeUnknownMove, Message: err.Error()}
	}
	if errors.Is(err, handoff.ErrTaken) {
		return &transport.Error{Code: peer.CodeTaken, Message: err.Error()}
	}
	e := httpjson.ErrorOf(err)
	if e.Code == api.CodeFailed {
		e = source.WithDiagnosis(&api.Error{Code: api.CodeFailed, Message: err.Error(), Hint: e.Hint}, err)
	}
	return &transport.Error{Code: string(e.Code), Message: e.Message, Hint: e.Hint}
}

// onCut is for a session that ended while its move was not finished.
func (a *Arrivals) onCut(ctx context.Context, arr *Arrival) error {
	if arr.half.State().Finished() {
		return nil
	}
	return arr.half.Cut(ctx, arr.source)
}

// finish goes on with a move that has failed half way on this node, as after a restart.
func (a *Arrivals) finish(half *handoff.TargetHalf, source handoff.Asker) error {
	if half.State().Finished() {
		return nil
	}
	return half.Recover(a.Life, source)
}

func (a *Arrivals) finishLater(arr *Arrival) {
	a.Background.Go(func() {
		a.Recovery.insist("a move waits", arr.half.Record().Move, func() error { return a.finish(arr.half, arr.source) })
	})
}

func (a *Arrivals) ClientOf(rec handoff.Record) *peer.Client {
	return &peer.Client{A: a.Node, Node: rec.Peer, Addr: rec.PeerAddr, Move: rec.Move}
}

// consider decides about an offer. What it refuses has touched nothing.
func (a *Arrivals) consider(ctx context.Context, s *transport.Session, m transport.Message) (*Arrival, transport.Message, error) {
	var o peer.Offer
	if err := m.Decode(&o); err != nil {
		return nil, transport.Message{}, err
	}
	if err := CheckOffer(o); err != nil {
		return nil, transport.Message{}, err
	}
	findings, err := a.examine(ctx, o.Needs, o.Record)
	if err != nil {
		return nil, transport.Message{}, err
	}
	taken, err := a.KeepIDs(o.Move, o.Record)
	if err != nil {
		return nil, transport.Message{}, err
	}
	if findings = append(findings, taken...); len(findings) > 0 {
		a.IDs.LetGo(string(o.Move))
		answer, err := transport.NewMessage(peer.SayRefuse, peer.Refusal{Findings: source.AsFindings(findings)})
		return nil, answer, err
	}
	if err := a.Copies.Newer(ctx, s.Peer(), peer.BackAddr(s, o.Port), o); err != nil {
		a.IDs.LetGo(string(o.Move))
		return nil, transport.Message{}, err
	}
	arr, err := a.begin(ctx, s, o)
	if err != nil {
		if a.ArrivalOf(o.Move) == nil { // else until that is finished
			a.IDs.LetGo(string(o.Move))
		}
		return nil, transport.Message{}, err
	}
	answer, err := transport.NewMessage(peer.SayAccept, nil)
	return arr, answer, err
}

func CheckOffer(o peer.Offer) error {
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

func (a *Arrivals) examine(ctx context.Context, needs preflight.Needs, rec job.Record) ([]preflight.Finding, error) {
	node, err := a.Launcher.AsTarget()
	if err != nil {
		return nil, err
	}
	findings, err := preflight.CheckNode(ctx, needs, rec, node)
	if err == nil && len(findings) == 0 { // what is missing has been told
		findings = append(launch.Unreachable(rec.Spec), a.Launcher.QuotaOf(rec)...)
	}
	return findings, err
}

// begin admits the move and starts to receive.
func (a *Arrivals) begin(ctx context.Context, s *transport.Session, o peer.Offer) (*Arrival, error) {
	l := target.NewJob(a.Targets, string(o.Move), o.Record.ID)
	l.Offered = &o.Record
	l.Recorded = slices.Contains(s.Features(), peer.FeatureIdentity)
	rec := handoff.Record{Move: o.Move, Kind: handoff.KindMove, Job: string(o.Record.ID), Peer: s.Peer(), PeerAddr: peer.BackAddr(s, o.Port), Epoch: o.Epoch, BootID: a.Boot,
		Since: a.ArrivesSince(o.Record)}
	if err := a.MayArrive(o.Record); err != nil {
		return nil, err
	}
	arr := &Arrival{landing: l, half: a.engine().NewTarget(rec, l), source: a.ClientOf(rec)}
	a.settleEarlier(ctx, o.Record.ID)
	if err := arr.half.Begin(ctx); err != nil {
		return nil, err
	}
	err := l.Open()
	if err == nil {
		err = l.Admit(o.Record)
	}
	if err != nil {
		if err = errors.Join(err, arr.half.Abort(ctx)); !arr.half.State().Finished() {
			a.know(arr)
			a.finishLater(arr)
		}
		return nil, err
	}
	l.In.OutputLimit = o.Record.Spec.OutputLimit
	if _, err := l.MakeRoom(ctx, o.Record); err != nil {
		a.Log.Info("room for a job is made later", logkey.Job, l.Job, logkey.Move, o.Move, logkey.Err, err)
	}
	l.Receive(ctx, s.Data())
	a.know(arr)
	return arr, nil
}

// know has others find an arrival, until it is finished.
func (a *Arrivals) know(arr *Arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.underWay[arr.half.Record().Move] = arr
}

// settleTime is how long an offer waits for an earlier move to be sorted out.
const settleTime = 8 * time.Second

// settleEarlier ends earlier moves of a job that is offered again: its source has
// given them up, which this node need not have heard yet when the link was cut.
func (a *Arrivals) settleEarlier(ctx context.Context, id job.ID) {
	a.mu.Lock()
	var earlier []*Arrival
	for _, arr := range a.underWay {
		if arr.landing.Job == id {
			earlier = append(earlier, arr)
		}
	}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, arr := range earlier {
		if err := a.onCut(ctx, arr); err != nil {
			a.Log.Error("an earlier move of the job waits", logkey.Move, arr.half.Record().Move, logkey.Err, err)
		}
	}
}

// engine performs the moves of this node.
func (a *Arrivals) engine() handoff.Engine {
	return handoff.Engine{Journal: a.Journal, Fence: a.Fence, Boot: a.Boot, Observe: a.observe}
}

// observe is told each record of a move once it is on the disk.
func (a *Arrivals) observe(rec handoff.Record) {
	a.Log.Info("move", logkey.Job, rec.Job, logkey.Move, rec.Move, logkey.Kind, rec.Kind, logkey.Peer, rec.Peer, logkey.Role, rec.Role, logkey.Epoch, rec.Epoch, logkey.State, rec.State)
	if rec.State.Finished() {
		a.forget(rec.Move)
	}
}

func (a *Arrivals) forget(m handoff.MoveID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.underWay, m)
	a.IDs.LetGo(string(m))
}

// Answer carries out a word about a move that is known here.
func (a *Arrivals) Answer(ctx context.Context, s *transport.Session, m transport.Message) (transport.Message, error) {
	var ref peer.MoveRef
	if err := m.Decode(&ref); err != nil {
		return transport.Message{}, err
	}
	if m.Type == peer.SayYield {
		return said(peer.SayYielded, a.Yield(ctx, s.Peer(), ref.Move))
	}
	state, err := a.Journal.Answer(ref.Move, s.Peer())
	if err != nil {
		return transport.Message{}, err
	}
	if m.Type == peer.SayOutcome {
		return transport.NewMessage(peer.SayState, peer.StateReply{State: state, InDoubt: a.Resolver.cannotDecide(ref.Move)})
	}
	arr := a.ArrivalOf(ref.Move)
	if arr == nil {
		return a.answerFinished(m.Type, state)
	}
	switch m.Type {
	case peer.SayWhy:
		return said(peer.SayNothing, arr.landing.Why())
	case peer.SayPrepare:
		var p peer.PrepareRequest
		if err := m.Decode(&p); err != nil {
			return transport.Message{}, err
		}
		if err := arr.landing.Expect(p.Record, p.Pull); err != nil {
			return transport.Message{}, err
		}
		return said(peer.SayPrepared, arr.half.Prepare(ctx))
	case peer.SayCommit:
		return said(peer.SayRunning, arr.half.Commit(ctx))
	case peer.SayAbort:
		return said(peer.SayAborted, arr.half.Abort(ctx))
	}
	return transport.Message{}, fmt.Errorf("%q is nothing that this agent understands", m.Type)
}

// answerFinished answers for a move that is over here: words may come twice.
func (a *Arrivals) answerFinished(kind string, state handoff.State) (transport.Message, error) {
	switch {
	case kind == peer.SayCommit && state == handoff.StateDone:
		return said(peer.SayRunning, nil)
	case kind == peer.SayAbort && state == handoff.StateDropped:
		return said(peer.SayAborted, nil)
	}
	return transport.Message{}, fmt.Errorf("%q comes too late: the move is %s here", kind, state)
}

func said(kind string, err error) (transport.Message, error) {
	if err != nil {
		return transport.Message{}, err
	}
	return transport.NewMessage(kind, nil)
}

func (a *Arrivals) ArrivalOf(m handoff.MoveID) *Arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.underWay[m]
}
