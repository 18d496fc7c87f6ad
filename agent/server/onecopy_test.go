package server

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/transport"
)

// peers are agents of one cluster that know each other.
func peers(t *testing.T, names ...string) []*Server {
	t.Helper()
	ca := testenv.NewAuthority(t)
	var all []*Server
	for _, name := range names {
		a := newAgent(t)
		a.Identity, a.Config.Node, a.Config.Peers = ca.Node(t, name), name, map[string]string{}
		a.reachable(t)
		all = append(all, a)
	}
	for _, a := range all {
		for _, b := range all {
			if a != b {
				a.Config.Peers[b.Config.Node] = b.Config.Listen
			}
		}
	}
	return all
}

func (a *Server) mustAdmit(t *testing.T, id job.ID, epoch int64) {
	t.Helper()
	if err := a.Fence.Admit(string(id), epoch); err != nil {
		t.Fatal(err)
	}
}

func TestOfTwoWhoAskOneIsGranted(t *testing.T) {
	all := peers(t, "writer", "b", "c")
	writer, id := all[0], job.NewID()
	writer.mustAdmit(t, id, 3)
	var q [2]*handoff.Inquiry
	for i, a := range all[1:] {
		var err error
		if q[i], err = handoff.Inquire(testenv.Bounded(t), copies.WitnessesOf(a.Copies, id), []handoff.Place{{Node: a.Config.Node}, {Node: "writer"}}, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	var errs [2]error
	var both sync.WaitGroup
	for i, a := range all[1:] {
		both.Go(func() {
			g := handoff.Grant{Epoch: q[i].Epoch(0), Node: a.Config.Node}
			errs[i] = q[i].Grant(testenv.Bounded(t), g)
			if again := q[i].Grant(testenv.Bounded(t), g); (again == nil) != (errs[i] == nil) {
				t.Errorf("%s: %v, then %v", a.Config.Node, errs[i], again)
			}
		})
	}
	both.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("granted: %v, %v", errs[0], errs[1])
	}
	g, _ := writer.Fence.Granted(string(id))
	s, err := writer.Copies.Standing(testenv.Bounded(t), id)
	if err != nil || len(s.Next) != 1 || s.Next[0].Node != g.Node || s.Next[0].Addr == "" || s.Epoch != 4 {
		t.Errorf("whoever asks next hears %+v, %v", s, err)
	}
	if err := (copies.WitnessesOf(all[1].Copies, id)).Grant(testenv.Bounded(t), "writer", nil, 4, handoff.Grant{Epoch: 4, Node: "c"}); (err == nil) != (g.Node == "b") {
		t.Errorf("b asks in c's name: %v", err)
	}
}

func TestAJobThatLivesIsGrantedToNobody(t *testing.T) {
	all := peers(t, "writer", "b")
	writer, b := all[0], all[1]
	unfinished := job.NewID()
	rec := handoff.Record{Move: handoff.NewMoveID(), Kind: handoff.KindMove, Job: string(unfinished), Role: handoff.RoleTarget, State: handoff.StateReceiving, Peer: "x", Epoch: 2, BootID: "boot"}
	if err := writer.Journal.Append(rec); err != nil {
		t.Fatal(err)
	}
	left := nodetest.Known(t, writer.Node, func(r *job.Record) { // its shim was killed, and its tasks run on
		r.Cgroup = map[string]string{"unified": filepath.Join(t.TempDir(), "cgroup")}
		if err := os.MkdirAll(r.Cgroup["unified"], 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.Cgroup["unified"], "cgroup.procs"), []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	for name, id := range map[string]job.ID{"unfinished": unfinished, "tasks without a shim": left.ID} {
		var alive *handoff.AliveError
		if _, err := handoff.Inquire(testenv.Bounded(t), copies.WitnessesOf(b.Copies, id), []handoff.Place{{Node: "writer"}}, nil, nil); !errors.As(err, &alive) {
			t.Errorf("%s: %v", name, err)
		}
		err := copies.WitnessesOf(b.Copies, id).Grant(testenv.Bounded(t), "writer", nil, 0, handoff.Grant{Epoch: 9, Node: "b"})
		if nodetest.CodeOf(err) != api.CodeRefused {
			t.Errorf("%s: granted, %v", name, err)
		}
	}
}

func TestAnAddressInAClaimLeadsToItsNodeOrNowhere(t *testing.T) {
	all := peers(t, "here", "other")
	here, other := all[0], all[1]
	err := here.Peers.Question(testenv.Bounded(t), "writer", []string{other.Config.Listen}, peer.PeerPath+"/"+string(job.NewID()), nil, &struct{}{})
	if err == nil || errors.Is(err, handoff.ErrAnswers) {
		t.Errorf("another node answered for it: %v", err)
	}
	delete(here.Config.Peers, "other")
	if _, err := (copies.WitnessesOf(here.Copies, job.NewID())).Standing(testenv.Bounded(t), "other", []string{"127.0.0.1:1", other.Config.Listen}); err != nil {
		t.Errorf("the second address is right: %v", err)
	}
}

func TestAnAgentThatDoesNotKnowTheQuestionIsNamedWithItsVersion(t *testing.T) {
	all := peers(t, "here", "other")
	here := all[0]
	ca := testenv.NewAuthority(t)
	here.Identity = ca.Node(t, "here")
	old := newAgent(t)
	old.Identity, old.Config.Node, old.Config.Version = ca.Node(t, "old"), "old", "0.9"
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := transport.NewListener(raw, old.Identity, old.Log)
	srv := &http.Server{Handler: old.routes(caller.FromPeer)} // without those of peers alone
	go func() { _ = srv.Serve(l.HTTP()) }()
	go func() { _ = old.Arrivals.AcceptMoves(testenv.Bounded(t), l) }()
	t.Cleanup(func() { _ = errors.Join(srv.Close(), l.Close()) })
	_, err = handoff.Inquire(testenv.Bounded(t), copies.WitnessesOf(here.Copies, job.NewID()), []handoff.Place{{Node: "old", Addr: raw.Addr().String()}}, nil, []string{"old"})
	var silent *handoff.SilentError
	if !errors.As(err, &silent) || !strings.Contains(err.Error(), "0.9") {
		t.Errorf("%v", err)
	}
}

func TestOnlyRootDeclaresANodeDead(t *testing.T) {
	if err := transfer.CheckDead([]string{"a"}, nodetest.Owner); nodetest.CodeOf(err) != api.CodeForbidden {
		t.Errorf("a user: %v", err)
	}
	if err := transfer.CheckDead(nil, nodetest.Owner); err != nil {
		t.Error(err)
	}
	if err := transfer.CheckDead([]string{"a", "No Name"}, nodetest.Operator); nodetest.CodeOf(err) != api.CodeUsage {
		t.Errorf("a name that is none: %v", err)
	}
	if err := transfer.CheckDead([]string{"a"}, nodetest.Operator); err != nil {
		t.Error(err)
	}
}

func TestANodeThatWentDownTellsNothingBeforeItHasHeardItsPeers(t *testing.T) {
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
	s, err := down.Copies.Standing(testenv.Bounded(t), id)
	if err != nil || s.Epoch != epoch || len(s.Next) != 1 || s.Next[0].Node != "b" {
		t.Errorf("it knows %+v, %v", s, err)
	}
}

func TestARestoreThatIsNotOverIsNotForTelling(t *testing.T) {
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

func TestACopyOfAnOlderLineEnds(t *testing.T) {
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
			return a.Copies.Newer(testenv.Bounded(t), "b", b.Config.Listen, peer.Offer{Epoch: later + 1, Record: job.Record{ID: id}})
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

func TestWhatIsNotProvenEndsNoCopy(t *testing.T) {
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

func TestOnePassesOnWhereItsCopyWent(t *testing.T) {
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

func TestAJobsNameIsThatOfTheOneThatLives(t *testing.T) {
	all := peers(t, "a", "b")
	a, b := all[0], all[1]
	named := func(r *job.Record) { r.Spec.Name = "sim" }
	moved := func(n int, to func(*job.Record)) job.Record {
		rec := nodetest.Known(t, b.Node, func(r *job.Record) { named(r); to(r) })
		gone := rec
		gone.Exit, gone.SavedIn = nil, ""
		gone.MovedTo = &job.Moved{Node: "b", Addr: b.Config.Listen}
		if err := a.Jobs.Create(gone); err != nil {
			t.Fatal(n, err)
		}
		return rec
	}
	ended := moved(1, func(r *job.Record) { r.Exit = &job.Exit{Code: 3} })
	saved := moved(2, func(r *job.Record) { r.SavedIn = "/saved" })
	forgotten := moved(3, func(*job.Record) {})
	if err := b.Jobs.Remove(forgotten.ID); err != nil {
		t.Fatal(err)
	}
	rec, err := a.find(testenv.Bounded(t), "sim", nodetest.Owner)
	if err != nil || rec.ID != saved.ID {
		t.Errorf("of those that are over the one that may go on is %s: %s, %v", saved.ID, rec.ID, err)
	}
	away := nodetest.Known(t, a.Node, func(r *job.Record) { named(r); r.MovedTo = &job.Moved{Node: "gone", Addr: "127.0.0.1:1"} })
	if rec, err := a.find(testenv.Bounded(t), "sim", nodetest.Owner); err != nil || rec.ID != away.ID {
		t.Errorf("nobody says that %s is over, and sim is %s, %v", away.ID, rec.ID, err)
	}
	if rec, err := a.Jobs.Get(ended.ID); err != nil || rec.Exit == nil || rec.Exit.Code != 3 || rec.MovedTo == nil {
		t.Errorf("how it ended is not written down: %+v, %v", rec, err)
	}
	for _, rec := range []job.Record{saved, away} {
		if rec, err := a.Jobs.Get(rec.ID); err != nil || rec.Exit != nil {
			t.Errorf("%+v, %v", rec, err)
		}
	}
}

func TestPeersQuestionsAreNotForUsers(t *testing.T) {
	a := newAgent(t)
	for _, path := range []string{"/v1/peer/jobs", "/v1/peer/jobs/j/grant", "/v1/peer/jobs/j/superseded"} {
		w := answer(a, nodetest.Operator, mustRequest(t, "POST", path))
		if w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func mustRequest(t *testing.T, method, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
	return r
}

func TestANodeThatHasLostWhereAJobWentNamesAllItsPeers(t *testing.T) {
	all := peers(t, "forgetful", "b")
	a, b := all[0], all[1]
	id, other := job.NewID(), job.NewID()
	ask := func(id job.ID) error {
		_, err := handoff.Inquire(testenv.Bounded(t), copies.WitnessesOf(b.Copies, id), []handoff.Place{{Node: "forgetful"}}, nil, nil)
		return err
	}
	const c = "c" // a node that only the forgetful one knows, and that cannot be asked
	a.Config.Peers = map[string]string{c: "127.0.0.1:1"}
	if err := ask(id); err != nil {
		t.Fatal(err)
	}
	if err := a.Fence.Lose(string(id)); err != nil {
		t.Fatal(err)
	}
	var silent *handoff.SilentError
	if err := ask(id); !errors.As(err, &silent) || silent.Nodes[c] == nil {
		t.Errorf("of the job that is lost: %v", err)
	}
	if err := ask(other); err != nil {
		t.Errorf("of another job: %v", err)
	}
	// The fence is taken away, and with it all that it knew.
	if err := errors.Join(os.Remove(a.Paths.Fence()), a.Jobs.Create(job.Record{ID: other, Spec: job.Spec{Args: []string{"x"}}})); err != nil {
		t.Fatal(err)
	}
	if err := a.OpenFence(); err != nil {
		t.Fatal(err)
	}
	if err := ask(job.NewID()); !errors.As(err, &silent) || silent.Nodes[c] == nil {
		t.Errorf("of any job, without a fence: %v", err)
	}
}
