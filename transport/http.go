package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/transport/pki"
)

// HTTPTransport speaks HTTP to the agent of peerNode at addr, on the port that moves use
// as well, with both sides authenticated. It connects there whatever host the URL names;
// write "https://NODE/…".
func HTTPTransport(addr, peerNode string, id *pki.Identity, set ...Option) *http.Transport {
	d := dialler{addr: addr, peer: peerNode, id: id, options: newOptions(set)}
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, d.timeout)
			defer cancel()
			c, err := d.connect(ctx, alpnHTTP)
			if err != nil {
				return nil, err
			}
			return c.Conn, nil
		},
		MaxIdleConns:    4,
		IdleConnTimeout: time.Minute,
	}
}

// PeerOf returns the node that sent r, from its certificate. r must have come over a
// Listener's HTTP().
func PeerOf(r *http.Request) (string, error) {
	if r.TLS == nil {
		return "", errors.New("the request did not come over TLS")
	}
	return pki.PeerName(*r.TLS)
}
