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
	// window is what Linux lets be under way on a TCP connection unless it was tuned
	// (the largest value of net.ipv4.tcp_wmem), in bytes.
	window = 4 << 20
	// perCore is what a core packs, encrypts and sends at best, in bytes per second.
	perCore = 500e6
	// mostChosen bounds what is chosen: each connection costs a handshake, and what
	// looks like a long way may be a node without time to answer.
	mostChosen = 6
)

// Connections is how many data connections a move uses: as many as the user says, or
// one for each core up to four, and more where the way is so long that TCP's window
// keeps one below what its share of the cores could send. One more is for images and
// output, which must not queue up behind memory.
func Connections(asked int, trip time.Duration) int {
	if asked > 0 {
		return asked + 1
	}
	cores := min(runtime.NumCPU(), 4)
	needed := int(math.Ceil(float64(cores) * perCore * trip.Seconds() / window))
	return min(max(cores, needed), mostChosen) + 1
}

// burst is what may cross at once, in bytes: a limit is kept on average over a few
// hundredths of a second.
const burst = 256 << 10

// LanesOf are the data connections of a session as lanes, together held to a
// number of bytes per second; 0 is no limit.
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

// limitedLane is a writer that waits for its turn.
type limitedLane struct {
	ctx     context.Context // of the move: a wait must end with it
	cancel  context.CancelFunc
	conn    net.Conn
	limiter *rate.Limiter
}

// SetWriteDeadline is for a time that has come: no more is taken, whether a write waits for
// its turn or for the peer.
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
