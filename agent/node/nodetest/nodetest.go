package nodetest

import (
	"cmp"
	"log/slog"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

// Owner is the user of the jobs that Known adds, Stranger another one, Operator root.
var (
	Owner    = caller.Caller{UID: 1000, GID: 1000}
	Stranger = caller.Caller{UID: 2000, GID: 2000}
	Operator = caller.Caller{}
)

// New is a node in directories of its own, without an agent.
func New(t testing.TB) *node.Node {
	t.Helper()
	state, run := testenv.OpenDir(t), testenv.OpenDir(t)
	n := node.New(node.Config{Node: "here", StateDir: state, RunDir: run, Log: slog.New(slog.DiscardHandler)})
	n.Paths, n.Boot, n.Life = node.Paths{State: state, Run: run, Memory: run}, "boot", testenv.Bounded(t)
	if err := n.OpenRecords(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Background.Wait()
		if err := n.Journal.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// Known adds a job that the edit describes.
func Known(t testing.TB, n *node.Node, edit func(*job.Record)) job.Record {
	t.Helper()
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"true"}, UID: 1000, GID: 1000}, Created: time.Now()}
	if edit != nil {
		edit(&rec)
	}
	if err := n.Jobs.Create(rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

// CodeOf is the code by which callers are told of an error.
func CodeOf(err error) api.Code {
	if err == nil {
		return ""
	}
	return httpjson.ErrorOf(err).Code
}

// Journalled writes a record of a move for each state, and fills in the fields that are empty.
func Journalled(t testing.TB, n *node.Node, rec handoff.Record, states ...handoff.State) handoff.Record {
	t.Helper()
	if rec.Move == "" {
		rec.Move = handoff.NewMoveID()
	}
	rec.Kind, rec.Epoch, rec.BootID = cmp.Or(rec.Kind, handoff.KindMove), 1, cmp.Or(rec.BootID, n.Boot)
	for _, rec.State = range states {
		if err := n.Journal.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	return rec
}

// ReopenJournal opens the journal of a node anew, as the next agent does.
func ReopenJournal(t testing.TB, n *node.Node) {
	t.Helper()
	if err := n.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.Journal, err = handoff.OpenJournal(n.Paths.Moves()); err != nil {
		t.Fatal(err)
	}
}
