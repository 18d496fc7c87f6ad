package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

// decide asks for what a decision would do, as who says.
func (s *Server) decide(t *testing.T, who caller.Caller, m handoff.MoveID, take string) (plan api.ResolvePlan, status int, refusal api.Error) {
	t.Helper()
	w := answer(s, who, httptest.NewRequest("GET", "/v1/moves/"+string(m)+"/resolve?take="+take, nil))
	var into any = &plan
	if w.Code != http.StatusOK {
		into = &refusal
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return plan, w.Code, refusal
}

// pair are a source and a target that reach each other.
func pair(t *testing.T) (source, target *Server) {
	t.Helper()
	ca := testenv.NewAuthority(t)
	source, target = newAgent(t), newAgent(t)
	source.Config.Node, source.Identity = "a", ca.Node(t, "a")
	target.Config.Node, target.Identity = "b", ca.Node(t, "b")
	source.reachable(t)
	target.reachable(t)
	return source, target
}

// half writes one node's records of a move between a and b.
func (s *Server) half(t *testing.T, peer *Server, m handoff.MoveID, id job.ID, boot string, states ...handoff.State) {
	t.Helper()
	rec := handoff.Record{Move: m, Job: string(id), Role: handoff.RoleSource, Peer: peer.Config.Node, PeerAddr: peer.Config.Listen, BootID: boot}
	if s.Config.Node == "b" {
		rec.Role = handoff.RoleTarget
	}
	nodetest.Journalled(t, s.Node, rec, states...)
}

var (
	toCommitted = []handoff.State{handoff.StateFrozen, handoff.StateCommitted}
	toPrepared  = []handoff.State{handoff.StateReceiving, handoff.StatePrepared}
	landed      = append(toPrepared[:2:2], handoff.StateCommitted)
)

func TestResolveIsRefusedWhenTheOtherNodeCanDecide(t *testing.T) {
	source, target := pair(t)
	for name, c := range map[string]struct {
		target []handoff.State
		boot   string // of the target's copy
		plan   bool   // the source may be decided about
	}{
		"it has the copy":              {toPrepared, "boot", false},
		"it has dropped the copy":      {append(toPrepared[:2:2], handoff.StateDropped), "boot", false},
		"it has begun to resume":       {landed, "boot", false},
		"it went down in the resume":   {landed, "an earlier one", true},
		"it has no record of the move": {nil, "", true},
	} {
		m, id := handoff.NewMoveID(), job.NewID()
		source.half(t, target, m, id, "boot", toCommitted...)
		target.half(t, source, m, id, c.boot, c.target...)
		for _, take := range []string{"true", "false"} {
			plan, code, e := source.decide(t, nodetest.Operator, m, take)
			if (code == http.StatusOK) != c.plan {
				t.Errorf("%s, take %s: %d %+v", name, take, code, e)
			}
			if c.plan && (len(plan.Does) == 0 || len(plan.Vouch) == 0 || !strings.Contains(plan.Why, "b ")) {
				t.Errorf("%s: %+v", name, plan)
			}
			if !c.plan && (e.Code != api.CodeRefused || e.Where == "" || e.Hint == "" || !strings.Contains(e.Message, "b answers")) {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

func TestResolveDropsATargetThatWentDownInItsResumeAndDoesNotTakeIt(t *testing.T) {
	source, target := pair(t)
	m, id := handoff.NewMoveID(), job.NewID()
	source.half(t, target, m, id, "boot", toCommitted...)
	target.half(t, source, m, id, "an earlier one", landed...)
	if _, code, e := target.decide(t, nodetest.Operator, m, "true"); code != http.StatusConflict || !strings.Contains(e.Hint, "--drop") {
		t.Errorf("take: %d %+v", code, e)
	}
	if plan, code, e := target.decide(t, nodetest.Operator, m, "false"); code != http.StatusOK || len(plan.Vouch) == 0 {
		t.Errorf("drop: %d %+v", code, e)
	}
}

func TestResolveRefusesWhatNeedsNoDecision(t *testing.T) {
	a := newAgent(t)
	a.Identity = testenv.NewAuthority(t).Node(t, "here")
	away := func(role handoff.Role, boot string, kind handoff.Kind, states ...handoff.State) handoff.MoveID {
		rec := handoff.Record{Kind: kind, Job: string(job.NewID()), Role: role, Peer: "away", PeerAddr: "127.0.0.1:1", BootID: boot}
		return nodetest.Journalled(t, a.Node, rec, states...).Move
	}
	live := away(handoff.RoleSource, "", handoff.KindMove, handoff.StateFrozen)
	rec, err := a.Journal.Get(live)
	if err != nil {
		t.Fatal(err)
	}
	release, err := a.Leaving.Claim(job.ID(rec.Job), live)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for name, c := range map[string]struct {
		move handoff.MoveID
		take string
		code int
	}{
		"it is over":            {away(handoff.RoleSource, "", handoff.KindMove, append(toCommitted[:2:2], handoff.StateReleased)...), "true", http.StatusConflict},
		"a checkpoint":          {away(handoff.RoleSource, "", handoff.KindCheckpoint, handoff.StateFrozen), "true", http.StatusConflict},
		"nothing is parked":     {away(handoff.RoleTarget, "", handoff.KindMove, handoff.StateReceiving), "true", http.StatusConflict},
		"it is under way":       {live, "true", http.StatusConflict},
		"the job died here":     {away(handoff.RoleSource, "an earlier one", handoff.KindMove, toCommitted...), "true", http.StatusConflict},
		"it may run here":       {away(handoff.RoleSource, "", handoff.KindMove, handoff.StateFrozen, handoff.StateAborting), "false", http.StatusConflict},
		"there is none":         {"mffffffffffffffff", "true", http.StatusNotFound},
		"no name of a move":     {"m-1", "true", http.StatusNotFound},
		"take it":               {away(handoff.RoleSource, "", handoff.KindMove, handoff.StateFrozen, handoff.StateAborting), "true", http.StatusOK},
		"take what is parked":   {away(handoff.RoleTarget, "", handoff.KindMove, toPrepared...), "true", http.StatusOK},
		"drop what is parked":   {away(handoff.RoleTarget, "", handoff.KindMove, toPrepared...), "false", http.StatusOK},
		"drop what died frozen": {away(handoff.RoleSource, "an earlier one", handoff.KindMove, handoff.StateFrozen), "false", http.StatusOK},
	} {
		if _, code, e := a.decide(t, nodetest.Operator, c.move, c.take); code != c.code {
			t.Errorf("%s: %d %+v", name, code, e)
		}
	}
}

func TestResolveIsForRootOfTheNodeOnly(t *testing.T) {
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, nil)
	mine := nodetest.Journalled(t, a.Node, handoff.Record{Job: string(rec.ID), Role: handoff.RoleSource, Peer: "away"}, toCommitted...).Move
	for _, m := range []handoff.MoveID{mine, "mffffffffffffffff"} { // and they learn nothing
		for _, who := range []caller.Caller{nodetest.Owner, nodetest.Stranger, {Peer: "b"}} {
			if _, code, e := a.decide(t, who, m, "true"); code != http.StatusForbidden || strings.Contains(e.Message, string(rec.ID)) {
				t.Errorf("%s for %+v: %d %+v", m, who, code, e)
			}
		}
	}
}

func TestResolveOfAnOldMoveEndsNoJobThatHasMovedOn(t *testing.T) {
	source, target := pair(t)
	for name, c := range map[string]struct {
		edit  func(*job.Record)
		yield bool
	}{
		"it is where the move left it": {func(r *job.Record) { r.Epoch = 1 }, true},
		"it ended":                     {func(r *job.Record) { r.Epoch, r.Exit = 4, &job.Exit{} }, true},
		"it was moved again":           {func(r *job.Record) { r.Epoch, r.MovedTo = 2, &job.Moved{Node: "c"} }, false},
		"it came back":                 {func(r *job.Record) { r.Epoch = 3 }, false},
	} {
		rec := nodetest.Known(t, source.Node, c.edit)
		m := handoff.NewMoveID()
		source.half(t, target, m, rec.ID, "boot", handoff.StateFrozen, handoff.StateAborting, handoff.StateAborted)
		target.half(t, source, m, rec.ID, "boot", toPrepared...)
		err := target.Arrivals.ClientOf(handoff.Record{Move: m, Peer: "a", PeerAddr: source.Config.Listen}).Yield(testenv.Bounded(t))
		if (err == nil) != c.yield {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "migrate rm -f") {
			t.Errorf("%s: %v", name, err)
		}
		after, err := source.Journal.Get(m)
		if err != nil || (after.State == handoff.StateReleased) != c.yield {
			t.Errorf("%s: %s, %v", name, after.State, err)
		}
	}
}

func TestResolveTellsThePeerUntilItYields(t *testing.T) {
	source, target := pair(t)
	rec := nodetest.Known(t, source.Node, nil)
	m := handoff.NewMoveID()
	target.half(t, source, m, rec.ID, "boot", toPrepared...)
	parked, err := target.Journal.Get(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := target.Recovery.OpenTarget(testenv.Bounded(t), parked); err != nil {
		t.Fatal(err)
	}
	taken := handoff.Record{Move: m, Job: string(rec.ID), Role: handoff.RoleSource, Peer: "b", PeerAddr: target.Config.Listen}
	nodetest.Journalled(t, source.Node, taken, toCommitted...)
	taken.Taken, taken.PeerToTell = true, true
	nodetest.Journalled(t, source.Node, taken, handoff.StateAborting, handoff.StateAborted)
	var open []api.MoveSummary
	if told(t, source, nodetest.Operator, "/v1/moves", &open); len(open) != 1 || !strings.Contains(open[0].WaitFor, "b to hear") {
		t.Errorf("before: %+v", open)
	}
	source.Arrivals.TellPeers()
	source.Background.Wait()
	if told(t, source, nodetest.Operator, "/v1/moves", &open); len(open) != 0 {
		t.Errorf("after: %+v", open)
	}
	if rec, err := target.Journal.Get(m); err != nil || rec.State != handoff.StateDropped || target.Arrivals.ArrivalOf(m) != nil {
		t.Errorf("the target: %+v, %v", rec, err)
	}
	third := newAgent(t)
	if err := third.Arrivals.Yield(testenv.Bounded(t), "a", m); !errors.Is(err, handoff.ErrUnknownMove) {
		t.Errorf("a node without a part in it: %v", err)
	}
	if err := target.Arrivals.Yield(testenv.Bounded(t), "c", m); !errors.Is(err, handoff.ErrUnknownMove) {
		t.Errorf("asked by a third node: %v", err)
	}
}
