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

func (s *Server) mustAdmit(t *testing.T, id job.ID, epoch int64) {
	t.Helper()
	if err := s.Fence.Admit(string(id), epoch); err != nil {
		t.Fatal(err)
	}
}

func TestGrantGoesToOneOfTwoWhoAsk(t *testing.T) {
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
	s, err := writer.Copies.Inquire(testenv.Bounded(t), id)
	if err != nil || len(s.Next) != 1 || s.Next[0].Node != g.Node || s.Next[0].Addr == "" || s.Epoch != 4 {
		t.Errorf("whoever asks next hears %+v, %v", s, err)
	}
	if err := (copies.WitnessesOf(all[1].Copies, id)).Grant(testenv.Bounded(t), "writer", nil, 4, handoff.Grant{Epoch: 4, Node: "c"}); (err == nil) != (g.Node == "b") {
		t.Errorf("b asks in c's name: %v", err)
	}
}

func TestGrantIsRefusedForAJobThatLives(t *testing.T) {
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

func TestAddressInAClaimLeadsToItsNodeOrNowhere(t *testing.T) {
	all := peers(t, "here", "other")
	here, other := all[0], all[1]
	err := here.Peers.Question(testenv.Bounded(t), "writer", []string{other.Config.Listen}, peer.PeerPath+"/"+string(job.NewID()), nil, &struct{}{})
	if err == nil || errors.Is(err, handoff.ErrAnswers) {
		t.Errorf("another node answered for it: %v", err)
	}
	delete(here.Config.Peers, "other")
	if _, err := (copies.WitnessesOf(here.Copies, job.NewID())).Ask(testenv.Bounded(t), "other", []string{"127.0.0.1:1", other.Config.Listen}); err != nil {
		t.Errorf("the second address is right: %v", err)
	}
}

func TestInquiryNamesAnAgentThatIsTooOldWithItsVersion(t *testing.T) {
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

func TestDeclaredDeadIsForRootOnly(t *testing.T) {
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

func TestPeerQuestionsAreNotForUsers(t *testing.T) {
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

func TestInquiryOfAJobThatIsLostNamesAllPeers(t *testing.T) {
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
	if err := a.Fence.MarkLost(string(id)); err != nil {
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
