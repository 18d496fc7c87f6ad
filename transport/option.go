package transport

import (
	"context"
	"net"
	"time"

	"github.com/migrate-hpc/migrate/stream"
)

// The two protocols on the one port, told apart by TLS (ALPN, RFC 7301).
const (
	alpnMove = "migrate/1"
	alpnHTTP = "http/1.1"
)

// Limits of a listener and of Dial.
const (
	setUpTimeout   = 10 * time.Second // from TCP connection to complete session
	maxHandshaking = 256              // connections that have not proved a name yet
	maxHalfOpen    = 64               // sessions that wait for their data connections
)

// Option changes how a Listener or Dial works.
type Option func(*options)

type options struct {
	features []string
	timeout  time.Duration
	dial     func(ctx context.Context, addr string) (net.Conn, error)
	data     func(trip time.Duration) int // nil: as many as Dial was told
}

// WithFeatures adds what this side announces in its hello.
func WithFeatures(features ...string) Option {
	return func(o *options) { o.features = append(o.features, features...) }
}

// WithDialer replaces the TCP dialler, to leave from another network namespace for instance.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithData has the number of data connections, 1 to MaxData, follow from what the
// control connection's TCP handshake took, which is one round trip, instead of Dial's
// argument.
func WithData(choose func(trip time.Duration) int) Option {
	return func(o *options) { o.data = choose }
}

// withTimeout replaces setUpTimeout.
func withTimeout(d time.Duration) Option {
	return func(o *options) { o.timeout = d }
}

func newOptions(set []Option) options {
	o := options{features: []string{stream.S2.String(), stream.Zstd.String()}, timeout: setUpTimeout, dial: dialTCP}
	for _, f := range set {
		f(&o)
	}
	return o
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}
