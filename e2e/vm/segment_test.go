package vm

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// plug connects to a segment as QEMU does.
func plug(t *testing.T, s *Segment, name string) net.Conn {
	t.Helper()
	path, err := s.Plug(name)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func sendFrame(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)); err != nil {
		t.Fatal(err)
	}
}

// greeting is what a test sends until it arrives.
const greeting = "hello"

// got is the next frame that is no greeting, or "" if none comes.
func got(conn net.Conn, within time.Duration) string {
	text := next(conn, within)
	for text == greeting {
		text = next(conn, within)
	}
	return text
}

// next is the next frame, or "" if none comes.
func next(conn net.Conn, within time.Duration) string {
	_ = conn.SetReadDeadline(time.Now().Add(within)) // a dead connection gives no frame either
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return ""
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(conn, b); err != nil {
		return ""
	}
	return string(b)
}

// greet sends frames until they arrive: until the hub has accepted a connection, frames to
// it are lost, as on a real one.
func greet(t *testing.T, from net.Conn, to ...net.Conn) {
	t.Helper()
	for _, conn := range to {
		for end := time.Now().Add(10 * time.Second); ; {
			sendFrame(t, from, greeting)
			if next(conn, 20*time.Millisecond) == greeting {
				break
			}
			if time.Now().After(end) {
				t.Fatal("no frame arrives")
			}
		}
	}
}

func TestSegmentCarriesFramesUnlessACableIsPulled(t *testing.T) {
	s := NewSegment(t.TempDir())
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	a, b, c := plug(t, s, "a"), plug(t, s, "b"), plug(t, s, "c")
	greet(t, a, b, c)
	s.Cut("b")
	sendFrame(t, a, "to c only")
	if text := got(c, 5*time.Second); text != "to c only" {
		t.Errorf("c got %q", text)
	}
	s.Mend("b")
	sendFrame(t, a, "to both")
	for name, conn := range map[string]net.Conn{"b": b, "c": c} {
		if text := got(conn, 5*time.Second); text != "to both" {
			t.Errorf("%s got %q", name, text)
		}
	}
	if text := got(a, 20*time.Millisecond); text != "" {
		t.Errorf("the sender hears itself: %q", text)
	}
}

func TestSegmentDelaysEveryFrame(t *testing.T) {
	s := NewSegment(t.TempDir())
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	a, b := plug(t, s, "a"), plug(t, s, "b")
	greet(t, a, b)
	const delay, frames = 20 * time.Millisecond, 5
	s.Slow("b", delay)
	began := time.Now()
	for range frames {
		sendFrame(t, a, "slow")
	}
	for range frames {
		if text := got(b, 5*time.Second); text != "slow" {
			t.Fatalf("b got %q", text)
		}
	}
	if took := time.Since(began); took < frames*delay {
		t.Errorf("%d frames came after %v, each is held up for %v", frames, took, delay)
	}
}
