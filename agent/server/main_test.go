package server

import (
	"context"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/transport"
)

func TestMain(m *testing.M) {
	namespaces.Stage()
	shim.Main()
	if len(os.Args) == 3 && os.Args[1] == callerRole {
		if err := playCaller(os.Args[2]); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// NewAgent is an agent without sockets, in directories of its own.
func NewAgent(t testing.TB) *Server {
	t.Helper()
	state, run := testenv.OpenDir(t), testenv.OpenDir(t)
	a := &Server{
		Config: node.Config{Node: "here", StateDir: state, RunDir: run}, Log: slog.New(slog.DiscardHandler), Boot: "boot",
		Paths: node.Paths{State: state, Run: run, Memory: run}, moves: map[job.ID]*node.ActiveMove{}, Arrivals: map[handoff.MoveID]*transfer.Arrival{},
		Life: testenv.Bounded(t), Priority: node.NewPriority(),
	}
	var err error
	if a.Jobs, err = job.OpenStore(a.Paths.Jobs()); err != nil {
		t.Fatal(err)
	}
	if a.Journal, err = handoff.OpenJournal(a.Paths.Moves()); err != nil {
		t.Fatal(err)
	}
	a.Agent.ShareOut()
	if a.Fence, err = handoff.OpenFence(a.Paths.Fence()); err != nil {
		t.Fatal(err)
	}
	a.Records = &progress.Records{Dir: a.Paths.Records(), Log: a.Log}
	t.Cleanup(func() {
		a.Background.Wait()
		if err := a.Journal.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// Known adds a job that the edits describe.
func (a *Server) Known(t testing.TB, edit func(*job.Record)) job.Record {
	t.Helper()
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"true"}, UID: 1000, GID: 1000}, Created: time.Now()}
	if edit != nil {
		edit(&rec)
	}
	if err := a.Jobs.Create(rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

// reachable has the agent answer its peers, and returns where.
func (a *Server) reachable(t testing.TB) string {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := transport.NewListener(raw, a.Identity, a.Log)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 2)
	go func() { served <- Serve(ctx, l.HTTP(), a.PeerHandler(), nil) }()
	go func() { served <- a.Arrivals.AcceptMoves(ctx, l) }()
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
	a.Config.Listen = raw.Addr().String()
	return a.Config.Listen
}

func CodeOf(err error) api.Code {
	if err == nil {
		return ""
	}
	return httpjson.ErrorOf(err).Code
}
