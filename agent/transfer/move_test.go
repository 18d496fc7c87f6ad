package transfer

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/transport"
	"github.com/migrate-hpc/migrate/transport/pki"
)

func TestAPullGivesItsTurnToTheNextMove(t *testing.T) {
	for mode, want := range map[api.Mode]int{api.ModePostCopy: 1, api.ModePreCopy: 0} {
		given := 0
		m := &moveOp{mode: mode, dep: &source.Job{}, give: func() { given++ }, tell: progress.New(io.Discard, "j", "m", nil)}
		peer := &peer.Client{}
		confirm := time.AfterFunc(time.Hour, func() {})
		m.watch(peer, confirm)
		peer.OnRunning()
		m.tell.End(&api.Result{}, nil)
		if given != want || confirm.Stop() {
			t.Errorf("%s: the turn was given %d times as soon as the job ran, want %d", mode, given, want)
		}
	}
}

// sessionOver dials over pipes.
func sessionOver(t *testing.T, wire *testenv.Pipes, to string, id *pki.Identity, options ...transport.Option) *transport.Session {
	t.Helper()
	s, err := transport.Dial(t.Context(), "pipes", to, id, 0,
		append(options, transport.WithDialer(func(context.Context, string) (net.Conn, error) { return wire.Dial(), nil }))...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestATargetThatNeitherTakesNorRefusesIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, ca, wire := New(nodetest.New(t)), testenv.NewAuthority(t), testenv.NewPipes()
		silent := transport.NewListener(wire, ca.Node(t, "there"), a.Log)
		defer silent.Close()
		accepted := make(chan *transport.Session, 1)
		go func() {
			s, _ := silent.Accept(t.Context())
			accepted <- s
		}()
		s := sessionOver(t, wire, "there", ca.Node(t, "here"))
		defer s.Close()
		theirs := <-accepted
		defer theirs.Close()
		went := make(chan error, 1)
		go func() {
			_, err := theirs.Recv()
			went <- err
		}()
		m := &moveOp{a: a, id: handoff.NewMoveID(), sess: s, req: api.MoveRequest{Node: "there"}}
		if err := m.offer(t.Context(), preflight.Needs{}); err == nil || !strings.Contains(err.Error(), "there has not said yes or no") {
			t.Errorf("got %v", err)
		}
		if err := <-went; err != nil {
			t.Errorf("it was not even asked: %v", err)
		}
	})
}
