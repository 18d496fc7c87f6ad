package server

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/transport"
)

func TestMain(m *testing.M) {
	namespaces.Stage()
	shim.Main()
	os.Exit(m.Run())
}

// newAgent is the server of a node without sockets, in directories of its own.
func newAgent(t testing.TB) *Server { return New(transfer.New(nodetest.New(t))) }

// reachable has the agent answer its peers, and returns where.
func (s *Server) reachable(t testing.TB) string {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := transport.NewListener(raw, s.Identity, s.Log)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 2)
	go func() { served <- Serve(ctx, l.HTTP(), s.PeerHandler(), nil) }()
	go func() { served <- s.Arrivals.AcceptMoves(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
	s.Config.Listen = raw.Addr().String()
	return s.Config.Listen
}
