package source

import (
	"context"
	"io"
	"math"
	"net"
	"runtime"
	"time"

	"golang.org/x/time/rate"
)

const (
	// window is how much Linux sends on a TCP connection ahead of acknowledgements, untuned: the
	// largest value of net.ipv4.tcp_wmem, in bytes.
	window = 4 << 20
	// perCore is how much a core compresses, encrypts and sends at best, in bytes per second.
	perCore = 500e6
	// mostChosen bounds the choice: each connection costs a handshake, and a long round trip may
	// also mean a busy node.
	mostChosen = 6
)

// Connections is the number of data connections of a move: asked, if that is above 0, or one for
// each core up to four. With a long round trip, trip, it is more: TCP's window then keeps a
// connection below what a core could send. One more is for images and output, which must not queue
// up behind memory.
func Connections(asked int, trip time.Duration) int {
	if asked > 0 {
		return asked + 1
	}
	cores := min(runtime.NumCPU(), 4)
	needed := int(math.Ceil(float64(cores) * perCore * trip.Seconds() / window))
	return min(max(cores, needed), mostChosen) + 1
}

// burst is how much a limited lane sends at once, in bytes: a limit holds on average over a few
// hundredths of a second.
const burst = 256 << 10

// LanesOf are the data connections of a session as lanes. All of them together send at most
// perSecond bytes per second; 0 is no limit.
func LanesOf(ctx context.Context, conns []net.Conn, perSecond int64) []io.Writer {
	limiter := rate.NewLimiter(rate.Limit(perSecond), burst)
	var lanes []io.Writer
	for _, c := range conns {
		if perSecond == 0 {
			lanes = append(lanes, c)
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		lanes = append(lanes, &limitedLane{ctx, cancel, c, limiter})
	}
	return lanes
}

// limitedLane is a connection that shares a rate limit with others.
type limitedLane struct {
	ctx     context.Context // of the move: a wait must end with it
	cancel  context.CancelFunc
	conn    net.Conn
	limiter *rate.Limiter
}

// SetWriteDeadline is for a deadline of now: it ends a write that waits for the limit or for the
// peer, and all later ones.
func (l *limitedLane) SetWriteDeadline(t time.Time) error {
	l.cancel()
	return l.conn.SetWriteDeadline(t)
}

func (l *limitedLane) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, burst)
		if err := l.limiter.WaitN(l.ctx, n); err != nil {
			return done, err
		}
		n, err := l.conn.Write(p[done : done+n])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
