package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestInquiryOfANodeThatWentDownWaitsUntilItHasHeardItsPeers(t *testing.T) {
	all := peers(t, "down", "b", "c")
	down, b, c := all[0], all[1], all[2]
	id := job.NewID()
	epoch := handoff.NextLine(3)
	if err := b.Fence.Owe(string(id), handoff.Debt{Epoch: epoch, Nodes: map[string]string{"down": ""}}); err != nil {
		t.Fatal(err)
	}
	for _, boot := range []string{"one", "two"} {
		if err := down.Fence.Booted(boot, []string{"b", "c"}); err != nil {
			t.Fatal(err)
		}
	}
	away := map[string]string{"b": "127.0.0.1:1", "c": "127.0.0.1:1"}
	down.Config.Peers, away = away, down.Config.Peers
	var silent *handoff.SilentError
	ask := func(from *Server) error {
		_, err := handoff.Inquire(testenv.Bounded(t), copies.WitnessesOf(from.Copies, id), []handoff.Place{{Node: "down"}}, nil, []string{"down"})
		return err
	}
	for _, from := range []*Server{c, down} {
		if err := ask(from); !errors.As(err, &silent) || !strings.Contains(err.Error(), "went down") {
			t.Errorf("%s hears %v", from.Config.Node, err)
		}
	}
	down.Config.Peers["b"] = away["b"]
	if err := ask(c); !errors.As(err, &silent) {
		t.Errorf("it has not heard c, and says %v", err)
	}
	down.Config.Peers = away
	if err := ask(c); err != nil {
		t.Errorf("it can reach everybody, and says %v", err)
	}
	s, err := down.Copies.Inquire(testenv.Bounded(t), id)
	if err != nil || s.Epoch != epoch || len(s.Next) != 1 || s.Next[0].Node != "b" {
		t.Errorf("it knows %+v, %v", s, err)
	}
}

func TestNewsLeavesOutARestoreThatIsNotOver(t *testing.T) {
	all := peers(t, "down", "b")
	down, b := all[0], all[1]
	id := job.NewID()
	rec := handoff.Record{Move: handoff.NewMoveID(), Kind: handoff.KindRestore, Job: string(id), Role: handoff.RoleTarget, State: handoff.StateReceiving, Peer: "b", Epoch: 8, BootID: "boot", Extra: []byte(`{"dir":"/saved"}`)}
	step := func(s handoff.State) {
		t.Helper()
		rec.State = s
		if err := b.Journal.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	step(handoff.StateReceiving)
	if err := b.Fence.Owe(string(id), handoff.Debt{Epoch: 8, Nodes: map[string]string{"down": ""}}); err != nil {
		t.Fatal(err)
	}
	for _, boot := range []string{"one", "two"} {
		if err := down.Fence.Booted(boot, []string{"b"}); err != nil {
			t.Fatal(err)
		}
	}
	if down.Copies.AskNewsOf(testenv.Bounded(t), "b"); len(down.Fence.Unheard()) == 0 {
		t.Error("it has heard what is not decided yet")
	}
	step(handoff.StateDropped)
	if down.Copies.AskNewsOf(testenv.Bounded(t), "b"); len(down.Fence.Unheard()) > 0 || down.Fence.Highest(string(id)) != 0 {
		t.Errorf("it has heard of a restore that came to nothing: epoch %d", down.Fence.Highest(string(id)))
	}
}

func TestSupersededCopyEnds(t *testing.T) {
	later := handoff.NextLine(3)
	for name, hear := range map[string]func(a, b *Server, id job.ID) error{
		"it is told": func(a, b *Server, id job.ID) error {
			if err := b.Fence.Owe(string(id), handoff.Debt{Epoch: later, Nodes: map[string]string{"a": ""}}); err != nil {
				return err
			}
			b.Copies.PayDebts(id)
			testenv.Eventually(t, func() bool { return len(b.Fence.Debts()) == 0 })
			return nil
		},
		"it asks": func(a, b *Server, id job.ID) error {
			a.Copies.AskNews(testenv.Bounded(t))
			return nil
		},
		"it tells, and is told better": func(a, b *Server, id job.ID) error {
			return a.Copies.TellSuperseded(id, 4, "b", "")
		},
		"it is offered the other": func(a, b *Server, id job.ID) error {
			return a.Copies.EndOlderCopy(testenv.Bounded(t), "b", b.Config.Listen, peer.Offer{Epoch: later + 1, Record: job.Record{ID: id}})
		},
	} {
		all := peers(t, "a", "b")
		a, b := all[0], all[1]
		rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.Epoch, r.Placements = 7, []job.Placement{{Node: "a"}} })
		other := rec
		other.Epoch = later
		if err := b.Jobs.Create(other); err != nil {
			t.Fatal(err)
		}
		if err := hear(a, b, rec.ID); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := a.Jobs.Get(rec.ID)
		if err != nil || got.Exit == nil || got.Exit.Code != 137 || got.Superseded == nil || got.Superseded.Node != "b" || got.Placements[0].To.IsZero() {
			t.Errorf("%s: the older copy: %+v, %v", name, got, err)
		}
		if got, err := b.Jobs.Get(rec.ID); err != nil || !got.Here() {
			t.Errorf("%s: the job: %+v, %v", name, got, err)
		}
	}
}

func TestSupersededIsNoCopyWithoutProof(t *testing.T) {
	later := handoff.NextLine(3)
	for name, prepare := range map[string]func(a, b *Server, rec job.Record) error{
		"a grant says nothing of a copy": func(_, b *Server, rec job.Record) error {
			return b.Fence.Grant(string(rec.ID), 0, handoff.Grant{Epoch: later, Node: "c"})
		},
		"a later epoch of the same line is another move's": func(_, b *Server, rec job.Record) error {
			rec.Epoch += 5
			return b.Jobs.Create(rec)
		},
		"a restore that is not over may come to nothing": func(_, b *Server, rec job.Record) error {
			rec.Epoch = later
			return errors.Join(b.Jobs.Create(rec), b.Journal.Append(handoff.Record{Move: handoff.NewMoveID(), Kind: handoff.KindMove, Job: string(rec.ID), Role: handoff.RoleTarget,
				State: handoff.StateReceiving, Peer: "b", Epoch: later, BootID: "boot"}))
		},
		"a move here is not over": func(a, b *Server, rec job.Record) error {
			other := rec
			other.Epoch = later
			return errors.Join(b.Jobs.Create(other), a.Journal.Append(handoff.Record{Move: handoff.NewMoveID(), Kind: handoff.KindMove, Job: string(rec.ID), Role: handoff.RoleSource,
				State: handoff.StateFrozen, Peer: "x", Epoch: 7, BootID: "boot"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := peers(t, "a", "b")
			a, b := all[0], all[1]
			rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.Epoch = 7 })
			if err := prepare(a, b, rec); err != nil {
				t.Fatal(err)
			}
			a.Copies.AskNews(testenv.Bounded(t))
			if err := b.Copies.TellSuperseded(rec.ID, 9, "a", ""); err == nil && strings.HasPrefix(name, "a move here") {
				t.Error("it passes for told")
			}
			if got, err := a.Jobs.Get(rec.ID); err != nil || !got.Here() {
				t.Errorf("its copy is ended: %+v, %v", got, err)
			}
		})
	}
}

func TestSupersededNodeNamesWhereItsCopyWent(t *testing.T) {
	all := peers(t, "a", "b", "c")
	a, b, c := all[0], all[1], all[2]
	rec := nodetest.Known(t, c.Node, func(r *job.Record) { r.Epoch = 7 })
	gone := rec
	gone.MovedTo = &job.Moved{Node: "c", Addr: c.Config.Listen, Epoch: 7}
	if err := a.Jobs.Create(gone); err != nil {
		t.Fatal(err)
	}
	if err := b.Fence.Owe(string(rec.ID), handoff.Debt{Epoch: handoff.NextLine(0), Nodes: map[string]string{"a": ""}}); err != nil {
		t.Fatal(err)
	}
	b.Copies.PayDebts(rec.ID)
	testenv.Eventually(t, func() bool { return len(b.Fence.Debts()) == 0 })
	if got, err := c.Jobs.Get(rec.ID); err != nil || got.Superseded == nil {
		t.Errorf("%+v, %v", got, err)
	}
}
