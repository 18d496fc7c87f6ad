package transfer

import (
	"context"

	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/transport"
)

// Relay is the target's side of a pull, between the source and the job's shim. It
// returns the last word: that the job lacks nothing.
func (a *Arrivals) Relay(ctx context.Context, s *transport.Session, m transport.Message) (transport.Message, error) {
	var ref peer.MoveRef
	if err := m.Decode(&ref); err != nil {
		return transport.Message{}, err
	}
	if _, err := a.Journal.Answer(ref.Move, s.Peer()); err != nil {
		return transport.Message{}, err
	}
	s.SetRecvTimeout(0) // a source has nothing to say as long as all is well
	release := a.Targets.TakeOverPull(ref.Move, s)
	defer release()
	r := &target.Relay{Targets: a.Targets, Move: ref.Move, Session: s}
	if arr := a.ArrivalOf(ref.Move); arr != nil && arr.landing.Receiver != nil {
		r.Digests = &arr.landing.Receiver.Digests
	}
	return said(peer.SayComplete, r.Run(ctx))
}
