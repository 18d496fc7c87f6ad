package transport

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sendTimeout is how long the peer may leave a control message unread.
const sendTimeout = 30 * time.Second

// Session is the connections of one move between two agents. Send, Recv and Close may
// be called at the same time from different goroutines.
type Session struct {
	id       string
	peer     string
	version  int
	features []string
	skew     time.Duration
	trip     time.Duration
	control  *conn
	data     []*conn

	sending     sync.Mutex
	receiving   sync.Mutex
	incoming    messageReader
	recvTimeout atomic.Int64
}

// ID is the session's random name, the same on both sides.
func (s *Session) ID() string { return s.id }

// Peer is the node at the other end, from its certificate.
func (s *Session) Peer() string { return s.peer }

// Version is the highest that both sides speak.
func (s *Session) Version() int { return s.version }

// Features are those that both sides announced, sorted.
func (s *Session) Features() []string { return slices.Clone(s.features) }

// Skew is the peer's CLOCK_REALTIME minus ours when the session began; it is right to
// within half of RoundTrip.
func (s *Session) Skew() time.Duration { return s.skew }

// RoundTrip is the time from sending our hello to the peer's answer.
func (s *Session) RoundTrip() time.Duration { return s.trip }

// RemoteAddr is the peer's end of the control connection.
func (s *Session) RemoteAddr() net.Addr { return s.control.RemoteAddr() }

// Data returns the data connections; both sides see them in the same order. One Write
// is one hand-over to the kernel, so write large pieces, as a stream.Writer does.
func (s *Session) Data() []net.Conn {
	out := make([]net.Conn, len(s.data))
	for i, c := range s.data {
		out[i] = c
	}
	return out
}

// Sent is the number of bytes written to the wire on all connections, TLS included.
func (s *Session) Sent() (n int64) {
	for c := range s.each {
		n += c.wire.sent.Load()
	}
	return n
}

// Received is the number of bytes read from the wire on all connections, TLS included.
func (s *Session) Received() (n int64) {
	for c := range s.each {
		n += c.wire.received.Load()
	}
	return n
}

func (s *Session) each(yield func(*conn) bool) {
	for _, c := range append([]*conn{s.control}, s.data...) {
		if c != nil && !yield(c) {
			return
		}
	}
}

// Send sends one control message of at most MaxMessage bytes. A peer that does not read
// for 30 s makes it fail, and the session is then broken.
func (s *Session) Send(m Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message %s: %w", m.Type, err)
	}
	if len(body) > MaxMessage {
		return fmt.Errorf("send message %s: %d bytes, the limit is %d", m.Type, len(body), MaxMessage)
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := s.control.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("send message %s to node %s: %w", m.Type, s.peer, err)
	}
	frame := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	if _, err := s.control.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("send message %s to node %s: %w", m.Type, s.peer, err)
	}
	return nil
}

// SendError reports err to the peer: the *Error in its chain, or else CodeInternal.
func (s *Session) SendError(err error) error {
	m, encode := NewMessage(typeError, asError(err))
	if encode != nil {
		return encode
	}
	return s.Send(m)
}

// SetRecvTimeout limits every later Recv; 0 means no limit. A Recv that ran out of time
// (os.ErrDeadlineExceeded) lost nothing and may be repeated.
func (s *Session) SetRecvTimeout(d time.Duration) { s.recvTimeout.Store(int64(d)) }

// Recv returns the peer's next control message. If it is an error, the message is
// returned with it, as *Error. io.EOF means that the peer closed the session.
func (s *Session) Recv() (Message, error) { return s.RecvContext(context.Background()) }

// RecvContext is Recv that also ends, with the cause, when ctx does. The session remains
// usable.
func (s *Session) RecvContext(ctx context.Context) (Message, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	body, err := s.receive(ctx)
	if err != nil {
		return Message{}, fmt.Errorf("receive from node %s: %w", s.peer, err)
	}
	var m Message
	if err := json.Unmarshal(body, &m); err != nil {
		return Message{}, fmt.Errorf("receive from node %s: malformed message: %w", s.peer, err)
	}
	if m.Type == "" || len(m.Type) > maxType {
		return Message{}, fmt.Errorf("receive from node %s: malformed message: a type of %d bytes", s.peer, len(m.Type))
	}
	if m.Type != typeError {
		return m, nil
	}
	remote := new(Error)
	if err := m.Decode(remote); err != nil {
		return m, fmt.Errorf("receive from node %s: %w", s.peer, err)
	}
	return m, remote
}

// receive waits with the read deadline as its alarm clock: ctx moves it into the past.
func (s *Session) receive(ctx context.Context) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var deadline time.Time
	if d := time.Duration(s.recvTimeout.Load()); d > 0 {
		deadline = time.Now().Add(d)
	}
	if err := s.control.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	rung := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(rung)
		// Fails on a closed connection only, and then the read has ended as well.
		_ = s.control.SetReadDeadline(time.Unix(1, 0))
	})
	body, err := s.incoming.next(s.control)
	if !stop() {
		<-rung
		if err != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
	}
	return body, err
}

// Abandon is Close for a session whose last words must not arrive any more: what the kernel has not
// yet delivered is thrown away, where Close lets it try on for up to a minute.
func (s *Session) Abandon() error {
	var all []error
	for c := range s.each {
		if tcp, ok := c.wire.Conn.(*net.TCPConn); ok {
			all = append(all, tcp.SetLinger(0))
		}
		all = append(all, c.wire.Conn.Close())
	}
	return errors.Join(all...)
}

// Close ends all connections. Whatever is blocked on them returns with an error.
func (s *Session) Close() error {
	var all []error
	for c := range s.each {
		all = append(all, c.Close())
	}
	return errors.Join(all...)
}
