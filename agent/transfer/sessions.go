package transfer

import (
	"context"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/transport"
)

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
