package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/migrate-hpc/migrate/transport"
)

// sink is a connection that takes everything.
type sink struct {
	net.Conn
	bytes.Buffer
	cut bool
}

func (s *sink) Write(p []byte) (int, error) { return s.Buffer.Write(p) }
func (s *sink) Read(p []byte) (int, error)  { return s.Buffer.Read(p) }

func (s *sink) SetWriteDeadline(t time.Time) error {
	s.cut = !t.IsZero()
	return nil
}

func TestBandwidthLimitHoldsForAllLanesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &sink{}, &sink{}
		lanes := LanesOf(t.Context(), []net.Conn{a, b}, 1<<20)
		began := time.Now()
		for _, l := range lanes {
			if n, err := l.Write(make([]byte, 2<<20)); n != 2<<20 || err != nil {
				t.Fatal(n, err)
			}
		}
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("4 MiB at 1 MiB per second took %v", took)
		}
		if a.Len() != 2<<20 || b.Len() != 2<<20 {
			t.Errorf("%d and %d bytes arrived", a.Len(), b.Len())
		}
	})
}

func TestBandwidthWaitEndsWithTheMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		lane := LanesOf(ctx, []net.Conn{&sink{}}, 1000)[0]
		if _, err := lane.Write(make([]byte, 1<<20)); !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestBandwidthWaitEndsWhenTheLaneIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &sink{}
		lane := LanesOf(t.Context(), []net.Conn{conn}, 1)[0]
		ended := make(chan error)
		go func() {
			_, err := lane.Write(make([]byte, 2*burst)) // for three days
			ended <- err
		}()
		synctest.Wait()
		cutter, ok := lane.(interface{ SetWriteDeadline(time.Time) error })
		if !ok {
			t.Fatal("it cannot be cut")
		}
		if err := cutter.SetWriteDeadline(time.Now()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) || !conn.cut {
			t.Errorf("cut: %v, the error is %v", conn.cut, err)
		}
	})
}

func TestBandwidthWithoutALimitLeavesTheConnection(t *testing.T) {
	c := &sink{}
	if lane := LanesOf(t.Context(), []net.Conn{c}, 0)[0]; lane != io.Writer(c) {
		t.Errorf("the lane is %T", lane)
	}
}

func TestConnectionsAreMoreOnALongWay(t *testing.T) {
	near, far := Connections(0, 100*time.Microsecond), Connections(0, 50*time.Millisecond)
	if near < 2 || near > 5 || far <= near || far > transport.MaxData {
		t.Errorf("%d connections nearby, %d far away", near, far)
	}
	if n := Connections(3, time.Second); n != 4 {
		t.Errorf("%d connections where 3 and one for the images were asked for", n)
	}
}
