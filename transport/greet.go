package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/transport/pki"
)

// greet answers the hello of a move's connection and brings it to its session.
func (l *Listener) greet(ctx context.Context, c *conn, ticket *handshake) error {
	theirs, err := ReadHello(c)
	if err != nil {
		return err
	}
	peer, err := pki.PeerName(c.ConnectionState())
	if err != nil {
		return err
	}
	l.handshaking.leave(ticket)
	ours := theirs
	ours.VersionMin, ours.VersionMax = VersionMin, VersionMax
	ours.Node, ours.Features, ours.Refused = l.id.Node, l.features, nil
	if theirs.Node != peer {
		return refuse(c, ours, &Error{
			Code:    CodeIdentity,
			Message: fmt.Sprintf("the hello names node %s, the certificate %s", theirs.Node, peer),
			Hint:    "restart the agent there: it has probably loaded another node's certificate; `openssl x509 -noout -subject -in FILE` shows whose",
		})
	}
	if theirs.Role == Control {
		return l.greetControl(ctx, c, ours, theirs)
	}
	return l.greetData(c, ours, theirs)
}

// refuse answers with the reason, which is also the error returned.
func refuse(c *conn, ours Hello, reason *Error) error {
	ours.Refused = reason
	ours.Time = time.Now().UnixNano()
	return errors.Join(reason, WriteHello(c, ours))
}

// greetControl stays with the session until it is complete and taken, or out of time.
func (l *Listener) greetControl(ctx context.Context, c *conn, ours, theirs Hello) error {
	s := &Session{id: theirs.Session, peer: theirs.Node, control: c}
	var err error
	if s.version, s.features, err = agree(ours, theirs); err != nil {
		return refuse(c, ours, asError(err))
	}
	half, reason := l.pending.open(s.peer, s.id, theirs.Data)
	if reason != nil {
		return refuse(c, ours, reason)
	}
	err = l.complete(ctx, half, s, ours)
	s.data = l.pending.close(half)
	if err == nil {
		err = clearDeadlines(s)
	}
	if err == nil {
		select {
		case l.ready <- s:
			return nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	err = fmt.Errorf("session %s of node %s: %w", s.id, s.peer, err)
	s.control = nil
	return errors.Join(err, s.Close())
}

func (l *Listener) complete(ctx context.Context, half *pendingSession, s *Session, ours Hello) error {
	if err := l.during(s.control, func() error { return answer(s, ours) }); err != nil {
		return err
	}
	select {
	case <-half.complete:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not all of its %d data connections came: %w", len(half.data), context.Cause(ctx))
	}
}

// answer sends our hello and takes the dialler's clock from its confirmation.
func answer(s *Session, ours Hello) error {
	begin := time.Now()
	ours.Time = begin.UnixNano()
	if err := WriteHello(s.control, ours); err != nil {
		return err
	}
	clock, err := readConfirm(s.control)
	if err != nil {
		return err
	}
	timing := exchanged{begin, time.Since(begin)}
	s.skew, s.trip = timing.skew(Hello{Time: clock}), timing.trip
	return nil
}

func clearDeadlines(s *Session) error {
	var all []error
	for c := range s.each {
		all = append(all, c.SetDeadline(time.Time{}))
	}
	return errors.Join(all...)
}

func (l *Listener) greetData(c *conn, ours, theirs Hello) error {
	half, reason := l.pending.reserve(theirs.Node, theirs.Session, theirs.Index, theirs.Data)
	if reason != nil {
		return refuse(c, ours, reason)
	}
	ours.Time = time.Now().UnixNano()
	if err := WriteHello(c, ours); err != nil {
		return err
	}
	c.wire.readAhead()
	if !l.pending.join(half, theirs.Index, c) {
		return fmt.Errorf("session %s of node %s was given up meanwhile", theirs.Session, theirs.Node)
	}
	return nil
}
