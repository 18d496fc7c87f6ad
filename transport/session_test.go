package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/stream"
)

func send(t *testing.T, s *Session, kind string, body any) {
	t.Helper()
	m, err := NewMessage(kind, body)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(m); err != nil {
		t.Fatal(err)
	}
}

func TestBothEndsOfASessionAgree(t *testing.T) {
	a, b := pair(t, 3, WithFeatures("post-copy"))
	if a.Peer() != "b" || b.Peer() != "a" || a.ID() != b.ID() || len(a.ID()) != 32 {
		t.Errorf("peers %q and %q, ids %q and %q", a.Peer(), b.Peer(), a.ID(), b.ID())
	}
	want := []string{"post-copy", "s2", "zstd"}
	for _, s := range []*Session{a, b} {
		if s.Version() != VersionMax || !reflect.DeepEqual(s.Features(), want) || len(s.Data()) != 3 {
			t.Errorf("version %d, features %q, %d data connections", s.Version(), s.Features(), len(s.Data()))
		}
		if s.Skew().Abs() > s.RoundTrip() || s.RoundTrip() <= 0 {
			t.Errorf("skew %s against itself, round trip %s", s.Skew(), s.RoundTrip())
		}
	}
}

func TestSkewIsThePeersClockMinusOurs(t *testing.T) {
	begin := time.Unix(1000, 0)
	ahead := Hello{Time: begin.Add(5*time.Second + 10*time.Millisecond).UnixNano()}
	if got := (exchanged{begin, 20 * time.Millisecond}).skew(ahead); got != 5*time.Second {
		t.Errorf("skew %s, want 5s", got)
	}
}

func TestDataConnectionsComeInTheSameOrder(t *testing.T) {
	a, b := pair(t, MaxData)
	for i, c := range a.Data() {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range b.Data() {
		var got [1]byte
		if _, err := io.ReadFull(c, got[:]); err != nil || int(got[0]) != i {
			t.Errorf("connection %d carries %d, %v", i, got[0], err)
		}
	}
}

func TestMessagesArriveInOrder(t *testing.T) {
	a, b := pair(t, 0)
	for i := range 100 {
		send(t, a, "count", i)
	}
	for i := range 100 {
		var got int
		m, err := b.Recv()
		if err != nil || m.Type != "count" || m.Decode(&got) != nil || got != i {
			t.Fatalf("%q %s, %v; want %d", m.Type, m.Body, err, i)
		}
	}
	send(t, b, "done", nil)
	if m, err := a.Recv(); err != nil || m.Type != "done" || m.Body != nil {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestAnErrorArrivesAsOne(t *testing.T) {
	a, b := pair(t, 0)
	sent := &Error{Code: "no_room", Message: "not enough memory", Hint: "free some"}
	if err := errors.Join(a.SendError(sent), a.SendError(io.ErrClosedPipe)); err != nil {
		t.Fatal(err)
	}
	var got *Error
	if _, err := b.Recv(); !errors.As(err, &got) || *got != *sent {
		t.Errorf("%v, want %v", err, sent)
	}
	if _, err := b.Recv(); !errors.As(err, &got) || got.Code != CodeInternal || got.Message != io.ErrClosedPipe.Error() {
		t.Errorf("%v, want the message under code internal", err)
	}
}

func TestRecvRunsOutOfTimeWithoutLoss(t *testing.T) {
	a, b := pair(t, 0)
	b.SetRecvTimeout(time.Millisecond)
	body := `{"type":"hello"}`
	frame := append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
	for piece := range slices.Chunk(frame, 3) {
		if _, err := b.Recv(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v, want os.ErrDeadlineExceeded", err)
		}
		if _, err := a.control.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	b.SetRecvTimeout(patience)
	if m, err := b.Recv(); err != nil || m.Type != "hello" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestRecvEndsWithItsContextAndTheSessionLives(t *testing.T) {
	a, b := pair(t, 0)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("operator gave up")
	var all sync.WaitGroup
	all.Go(func() { cancel(reason) })
	if _, err := b.RecvContext(ctx); !errors.Is(err, reason) {
		t.Errorf("%v, want the cause", err)
	}
	all.Wait()
	send(t, a, "still here", nil)
	if m, err := b.Recv(); err != nil || m.Type != "still here" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestMessagesAreBoundedOnBothSides(t *testing.T) {
	a, b := pair(t, 0)
	m, err := NewMessage("large", strings.Repeat("x", MaxMessage))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Send(m); err == nil {
		t.Error("sent more than MaxMessage")
	}
	if _, err := a.control.Write(binary.LittleEndian.AppendUint32(nil, MaxMessage+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Recv(); !errors.Is(err, errMessageSize) {
		t.Errorf("%v, want errMessageSize", err)
	}
}

func TestAClosedSessionEndsBothSides(t *testing.T) {
	a, b := pair(t, 1)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("Recv: %v, want io.EOF", err)
	}
	if _, err := stream.NewReader(b.Data()[0]); !errors.Is(err, stream.ErrTruncated) {
		t.Errorf("stream: %v, want ErrTruncated", err)
	}
	if err := errors.Join(b.Close(), b.Close(), a.Close()); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestCloseFreesAWriterWhosePeerDoesNotRead(t *testing.T) {
	a, _ := pair(t, 1)
	started := make(chan struct{})
	failed := make(chan error, 1)
	var all sync.WaitGroup
	all.Go(func() {
		s := stream.NewWriter(a.Data()[0], 1, stream.WithCodec(stream.None))
		frame := make([]byte, stream.MaxFrame)
		err := s.WriteFrame(frame)
		close(started)
		for err == nil {
			err = s.WriteFrame(frame)
		}
		failed <- err
	})
	<-started
	a.Close()
	select {
	case <-failed:
	case <-time.After(patience):
		t.Error("the writer still waits")
	}
	all.Wait()
}

func TestASessionCountsWhatCrossesTheWire(t *testing.T) {
	a, b := pair(t, 2)
	sent, received := a.Sent(), b.Received()
	var all sync.WaitGroup
	all.Go(func() {
		s := stream.NewWriter(a.Data()[1], 1, stream.WithCodec(stream.None))
		if err := errors.Join(s.WriteFrame(make([]byte, stream.MaxFrame)), s.Close()); err != nil {
			t.Error(err)
		}
	})
	r, err := stream.NewReader(b.Data()[1], 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	all.Wait()
	for side, n := range map[string]int64{"sent": a.Sent() - sent, "received": b.Received() - received} {
		if n < stream.MaxFrame || n > stream.MaxFrame+stream.MaxFrame/50 {
			t.Errorf("%s: %d bytes for a payload of %d", side, n, stream.MaxFrame)
		}
	}
}

// FuzzMessages holds that messages are found alike however the bytes arrive.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00{}\x01\x00\x00\x00x"), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff"), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		whole, wholeErr := messages(bytes.NewReader(data))
		parts, partsErr := messages(&hiccup{bytes.NewReader(data), int(piece) + 1, false})
		if !slices.EqualFunc(whole, parts, bytes.Equal) || wholeErr.Error() != partsErr.Error() {
			t.Errorf("%q, %v at once; %q, %v in pieces", whole, wholeErr, parts, partsErr)
		}
	})
}

func messages(r io.Reader) (all [][]byte, err error) {
	var m messageReader
	for {
		body, err := m.next(r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return all, err
		}
		all = append(all, body)
	}
}

// hiccup reads in pieces and runs out of time before each.
type hiccup struct {
	io.Reader
	piece int
	ready bool
}

func (h *hiccup) Read(p []byte) (int, error) {
	h.ready = !h.ready
	if h.ready {
		return 0, os.ErrDeadlineExceeded
	}
	return h.Reader.Read(p[:min(len(p), h.piece)])
}

func TestTheNumberOfConnectionsMayFollowFromTheRoundTrip(t *testing.T) {
	var seen time.Duration
	a, b := pair(t, 0, WithData(func(trip time.Duration) int {
		seen = trip
		return 5
	}))
	if len(a.Data()) != 5 || len(b.Data()) != 5 || seen <= 0 {
		t.Errorf("%d and %d connections after a round trip of %v", len(a.Data()), len(b.Data()), seen)
	}
	most, _ := pair(t, 0, WithData(func(time.Duration) int { return 99 }))
	least, _ := pair(t, 0, WithData(func(time.Duration) int { return -1 }))
	if len(most.Data()) != MaxData || len(least.Data()) != 1 {
		t.Errorf("%d connections for 99, %d for -1", len(most.Data()), len(least.Data()))
	}
}
