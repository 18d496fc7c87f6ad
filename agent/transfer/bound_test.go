package transfer

import (
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/transport"
)

// A target of an older version names no processors when it accepts, and binds no threads.
func TestAMoveTellsWhatBecomesOfBoundThreads(t *testing.T) {
	first, err := affinity.Parse("0-1")
	if err != nil {
		t.Fatal(err)
	}
	last, err := affinity.Parse("6-7")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		features []string
		accepts  any
		bound    affinity.Set
		want     string
	}{
		"older":          {nil, nil, last, "the migrate of there is older"},
		"same":           {[]string{peer.FeatureThreads}, peer.Acceptance{CPUs: first}, last, "6-7 are bound to 0-1"},
		"newer":          {[]string{peer.FeatureThreads}, map[string]any{"cpus": "0-7", "sockets": 2}, last, "stay bound to processors 6-7"},
		"none are bound": {nil, nil, affinity.Set{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, ca, wire := New(nodetest.New(t)), testenv.NewAuthority(t), testenv.NewPipes()
			target := transport.NewListener(wire, ca.Node(t, "there"), a.Log, transport.WithFeatures(c.features...))
			defer target.Close()
			answered := make(chan error, 1)
			go func() { answered <- accept(t, target, c.accepts) }()
			s := sessionOver(t, wire, "there", ca.Node(t, "here"), transport.WithFeatures(peer.FeatureThreads))
			defer s.Close()
			m := &moveOp{a: a, id: handoff.NewMoveID(), sess: s, req: api.MoveRequest{Node: "there"}, place: affinity.Placement{Bound: c.bound}}
			if err := m.offer(t.Context(), preflight.Needs{CPUs: c.bound}); err != nil {
				t.Fatal(err)
			}
			if err := <-answered; err != nil {
				t.Fatal(err)
			}
			if told := m.changes(); !strings.Contains(told, c.want) || c.want == "" && told != "" {
				t.Errorf("told %q", told)
			}
		})
	}
}

// accept takes what is offered in one session.
func accept(t *testing.T, l *transport.Listener, body any) error {
	s, err := l.Accept(t.Context())
	if err != nil {
		return err
	}
	if _, err := s.Recv(); err != nil {
		return err
	}
	m, err := transport.NewMessage(peer.SayAccept, body)
	if err != nil {
		return err
	}
	return s.Send(m)
}
