package agent

import (
	"context"
	"io"
	"net"

	"golang.org/x/time/rate"
)

// burst is what may cross at once, in bytes: a limit is kept on average over a few
// hundredths of a second.
const burst = 256 << 10

// lanesOf are the data connections of a session as lanes, together held to a
// number of bytes per second; 0 is no limit.
func lanesOf(ctx context.Context, conns []net.Conn, perSecond int64) []io.Writer {
	limiter := rate.NewLimiter(rate.Limit(perSecond), burst)
	var lanes []io.Writer
	for _, c := range conns {
		if perSecond == 0 {
			lanes = append(lanes, c)
			continue
		}
		lanes = append(lanes, &limited{ctx, c, limiter})
	}
	return lanes
}

// limited is a writer that waits for its turn.
type limited struct {
	ctx     context.Context // of the move: a wait must end with it
	w       io.Writer
	limiter *rate.Limiter
}

func (l *limited) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, burst)
		if err := l.limiter.WaitN(l.ctx, n); err != nil {
			return done, err
		}
		n, err := l.w.Write(p[done : done+n])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
