package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

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
	case peer.SayRecheck:
		return a.recheck(ctx, arr, m)
	case peer.SayWhy:
		return said(peer.SayNothing, arr.landing.ReceiveError())
	case peer.SayPrepare:
		var p peer.PrepareRequest
		if err := m.Decode(&p); err != nil {
			return transport.Message{}, err
		}
		if err := arr.landing.SetRecord(p.Record, p.Pull); err != nil {
			return transport.Message{}, err
		}
		arr.landing.BoundPark(p.Within)
		return said(peer.SayPrepared, arr.half.Prepare(ctx))
	case peer.SayCommit:
		return said(peer.SayRunning, arr.half.Commit(ctx))
	case peer.SayAbort:
		return said(peer.SayAborted, arr.half.Abort(ctx))
	}
	return transport.Message{}, fmt.Errorf("%q is nothing that this agent understands", m.Type)
}

// recheck looks for files that the job has come to hold since it was offered.
func (a *Arrivals) recheck(ctx context.Context, arr *Arrival, m transport.Message) (transport.Message, error) {
	var more peer.Recheck
	if err := m.Decode(&more); err != nil {
		return transport.Message{}, err
	}
	if arr.landing.Offered == nil {
		return transport.Message{}, fmt.Errorf("move %s was not offered to this agent", more.Move)
	}
	findings, err := preflight.CheckFiles(ctx, preflight.Needs{Files: more.Files}, *arr.landing.Offered)
	if err != nil {
		return transport.Message{}, err
	}
	if len(findings) > 0 {
		return transport.NewMessage(peer.SayRefuse, peer.Refusal{Findings: source.AsFindings(findings)})
	}
	return transport.NewMessage(peer.SayAccept, nil)
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
