package agent

import (
	"context"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
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

// newAgent is an agent without sockets, in directories of its own.
func newAgent(t testing.TB) *Agent {
	t.Helper()
	state, run := testenv.OpenDir(t), testenv.OpenDir(t)
	a := &Agent{
		cfg: Config{Node: "here", StateDir: state, RunDir: run}, log: slog.New(slog.DiscardHandler), boot: "boot",
		paths: paths{state: state, run: run, memory: run}, moves: map[job.ID]*activeMove{}, arrivals: map[handoff.MoveID]*arrival{},
		life: testenv.Bounded(t), pace: newPace(),
	}
	var err error
	if a.jobs, err = job.OpenStore(a.paths.jobs()); err != nil {
		t.Fatal(err)
	}
	if a.journal, err = handoff.OpenJournal(a.paths.moves()); err != nil {
		t.Fatal(err)
	}
	a.shareOut()
	if a.fence, err = handoff.OpenFence(a.paths.fence()); err != nil {
		t.Fatal(err)
	}
	a.records = &moveRecords{dir: a.paths.records(), log: a.log}
	t.Cleanup(func() {
		a.background.Wait()
		if err := a.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// known adds a job that the edits describe.
func (a *Agent) known(t testing.TB, edit func(*job.Record)) job.Record {
	t.Helper()
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"true"}, UID: 1000, GID: 1000}, Created: time.Now()}
	if edit != nil {
		edit(&rec)
	}
	if err := a.jobs.Create(rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

// reachable has the agent answer its peers, and returns where.
func (a *Agent) reachable(t testing.TB) string {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := transport.NewListener(raw, a.id, a.log)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 2)
	go func() { served <- serve(ctx, l.HTTP(), a.peerHandler(), nil) }()
	go func() { served <- a.acceptMoves(ctx, l) }()
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
	a.cfg.Listen = raw.Addr().String()
	return a.cfg.Listen
}

func codeOf(err error) api.Code {
	if err == nil {
		return ""
	}
	return asError(err).Code
}
