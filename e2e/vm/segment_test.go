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

// got is the next frame, or "" if none comes.
func got(conn net.Conn, within time.Duration) string {
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

func TestASegmentCarriesFramesUnlessACableIsPulled(t *testing.T) {
	s := NewSegment(t.TempDir())
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	a, b, c := plug(t, s, "a"), plug(t, s, "b"), plug(t, s, "c")
	// Until the hub has accepted somebody, frames to it are lost, as on a real one.
	for _, conn := range []net.Conn{b, c} {
		for end := time.Now().Add(10 * time.Second); ; {
			sendFrame(t, a, "hello")
			if got(conn, 20*time.Millisecond) == "hello" {
				break
			}
			if time.Now().After(end) {
				t.Fatal("no frame arrives")
			}
		}
		for got(conn, 50*time.Millisecond) != "" { // the rest of the greetings
		}
	}
	for got(b, 50*time.Millisecond) != "" {
	}
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
