package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

// told is the answer to a GET, decoded into v if it is a good one.
func told(t *testing.T, a *Server, c caller.Caller, path string, v any) (status int, body string) {
	t.Helper()
	w := answer(a, c, httptest.NewRequest("GET", path, nil))
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
			t.Fatalf("%s: %v in %s", path, err, w.Body)
		}
	}
	return w.Code, w.Body.String()
}

// attempt is a move of a job as its source keeps it, ended with err.
func (s *Server) attempt(t *testing.T, rec job.Record, err error) handoff.MoveID {
	t.Helper()
	m := handoff.NewMoveID()
	tell := progress.New(io.Discard, rec.ID, string(m), nil)
	tell.Recorder = &progress.Recorder{Store: s.Records, Describe: func(*api.MoveRecord) {}, Initial: api.MoveRecord{Move: string(m), Job: rec.ID, Name: rec.Spec.Name,
		UID: rec.Spec.UID, From: s.Config.Node, To: "there", Epoch: rec.Epoch, Began: time.Now()}}
	for _, p := range []api.Phase{api.PhasePreflight, api.PhaseWarmup} {
		tell.Enter(p, "")
	}
	tell.Round(api.Round{Number: 1, Scanned: 4096, Reason: "goes on"})
	for _, p := range []api.Phase{api.PhaseFreeze, api.PhaseDump, api.PhaseResidue, api.PhasePark, api.PhaseCommit, api.PhaseResume, api.PhaseRelease} {
		tell.Enter(p, "")
	}
	tell.End(&api.Result{Downtime: time.Nanosecond}, err)
	return m
}

func TestMoveRecordTellsPhasesRoundsAndHowItEnded(t *testing.T) {
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.Spec.Name = "sim" })
	for _, c := range []struct {
		err  error
		want api.MoveState
	}{
		{nil, api.MoveDone},
		{peer.Refused([]api.Finding{{Code: "cpu"}}), api.MoveRefused},
		{&api.Error{Code: api.CodeSuspended, Message: "suspended"}, api.MoveRefused},
		{&api.Error{Code: api.CodeAborted, Message: "no room"}, api.MoveAborted},
		{&api.Error{Code: api.CodeCancelled, Message: "enough"}, api.MoveCancelled},
		{errors.New("no route"), api.MoveFailed},
	} {
		m := a.attempt(t, rec, c.err)
		var r api.MoveRecord
		if code, body := told(t, a, nodetest.Owner, "/v1/moves/"+string(m), &r); code != http.StatusOK {
			t.Fatalf("%v: %d %s", c.err, code, body)
		}
		if r.State != c.want || r.Job != rec.ID || r.Name != "sim" || r.From != "here" || r.To != "there" || len(r.Phases) != 9 || len(r.Rounds) != 1 {
			t.Errorf("%v: %+v", c.err, r)
		}
		if (r.Error != nil) != (c.err != nil) || r.Error != nil && (r.Error.Message != c.err.Error() || r.Error.Code == api.CodeRefused && len(r.Error.Findings) != 1) {
			t.Errorf("%v: the reason is %+v", c.err, r.Error)
		}
		var sum time.Duration
		for _, s := range r.Phases {
			sum += s.Took
		}
		if sum > r.Took || r.Downtime <= 0 || r.Downtime > r.Took || r.Frozen.Before(r.Began) || r.Resumed.Before(r.Frozen) {
			t.Errorf("%v: phases took %v of %v, downtime %v, %v to %v", c.err, sum, r.Took, r.Downtime, r.Frozen, r.Resumed)
		}
	}
}

func TestMoveThatItsAgentLeftIsShownAsTheJournalHasIt(t *testing.T) {
	a := newAgent(t)
	for _, c := range []struct {
		states []handoff.State
		want   api.MoveState
	}{
		{nil, api.MoveAborted},
		{[]handoff.State{handoff.StateFrozen}, api.MoveWaiting},
		{[]handoff.State{handoff.StateFrozen, handoff.StateCommitted}, api.MoveWaiting},
		{[]handoff.State{handoff.StateFrozen, handoff.StateAborting, handoff.StateAborted}, api.MoveAborted},
		{[]handoff.State{handoff.StateFrozen, handoff.StateCommitted, handoff.StateReleased}, api.MoveDone},
	} {
		rec := nodetest.Known(t, a.Node, nil)
		m := a.attempt(t, rec, &api.Error{Code: api.CodeInDoubt, Message: "in doubt"})
		nodetest.Journalled(t, a.Node, handoff.Record{Move: m, Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, c.states...)
		var r api.MoveRecord
		if code, body := told(t, a, nodetest.Owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || r.State != c.want || len(r.Steps) != len(c.states) {
			t.Errorf("%v: %d %s", c.states, code, body)
		}
		if (r.WaitFor != "") != (c.want == api.MoveWaiting) || (r.Error != nil) == (c.want == api.MoveDone) {
			t.Errorf("%v: waits for %q, reason %+v", c.states, r.WaitFor, r.Error)
		}
	}
}

func TestMoveOfAnotherUserIsAsUnknownAsNone(t *testing.T) {
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, nil)
	kept := a.attempt(t, rec, nil)
	only := nodetest.Journalled(t, a.Node, handoff.Record{Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, handoff.StateFrozen)
	nobodys := nodetest.Journalled(t, a.Node, handoff.Record{Job: string(job.NewID()), Role: handoff.RoleTarget, Peer: "there"}, handoff.StateReceiving)
	none := "mffffffffffffffff"
	_, want := told(t, a, nodetest.Stranger, "/v1/moves/"+none, nil)
	for _, m := range []handoff.MoveID{kept, only.Move, nobodys.Move} {
		code, body := told(t, a, nodetest.Stranger, "/v1/moves/"+string(m), nil)
		if code != http.StatusNotFound || strings.ReplaceAll(body, string(m), none) != want {
			t.Errorf("%s: %d %s, want %s", m, code, body, want)
		}
		var r api.MoveRecord
		if code, body := told(t, a, nodetest.Operator, "/v1/moves/"+string(m), &r); code != http.StatusOK {
			t.Errorf("root asks for %s: %d %s", m, code, body)
		}
	}
	for _, path := range []string{"/v1/moves", "/v1/moves?all=true"} {
		if code, body := told(t, a, nodetest.Stranger, path, new([]api.MoveSummary)); code != http.StatusOK || strings.TrimSpace(body) != "[]" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := told(t, a, nodetest.Operator, "/v1/moves/..%2fjobs", nil); code != http.StatusNotFound {
		t.Errorf("a path for a move: %d", code)
	}
}

func TestMovesAreListedUnfinishedFirstAndOthersOnRequest(t *testing.T) {
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, nil)
	refused := a.attempt(t, rec, peer.Refused(nil))
	moved := nodetest.Journalled(t, a.Node, handoff.Record{Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, handoff.StateFrozen, handoff.StateCommitted, handoff.StateReleased)
	waits := nodetest.Journalled(t, a.Node, handoff.Record{Job: string(rec.ID), Role: handoff.RoleTarget, Peer: "there"}, handoff.StateReceiving, handoff.StatePrepared)
	saved := nodetest.Journalled(t, a.Node, handoff.Record{Job: string(nodetest.Known(t, a.Node, nil).ID), Kind: handoff.KindCheckpoint, Role: handoff.RoleSource, Peer: "here", Extra: json.RawMessage(`{"dir":"/saved"}`)}, handoff.StateFrozen)
	var list []api.MoveSummary
	told(t, a, nodetest.Owner, "/v1/moves", &list)
	if len(list) != 2 || list[0].Move != string(saved.Move) || list[0].Role != "checkpoint" || list[0].Peer != "/saved" || list[1].Move != string(waits.Move) ||
		list[1].State != "prepared" || list[1].Finished || list[1].WaitFor == "" {
		t.Errorf("unfinished: %+v", list)
	}
	told(t, a, nodetest.Owner, "/v1/moves?all=true", &list)
	var names []string
	for _, m := range list {
		names = append(names, m.Move)
	}
	if want := fmt.Sprint([]handoff.MoveID{saved.Move, waits.Move, moved.Move, refused}); fmt.Sprint(names) != want || list[3].State != "refused" || !list[3].Finished || list[3].Note == "" {
		t.Errorf("all: %v, want %v: %+v", names, want, list[3])
	}
}

func TestMoveRecordIsAskedOfTheSourceByTheTarget(t *testing.T) {
	ca := testenv.NewAuthority(t)
	source, target := newAgent(t), newAgent(t)
	source.Config.Node, source.Identity = "a", ca.Node(t, "a")
	target.Config.Node, target.Identity = "b", ca.Node(t, "b")
	addr := source.reachable(t)
	rec := nodetest.Known(t, source.Node, nil)
	m := source.attempt(t, rec, nil)
	nodetest.Known(t, target.Node, func(r *job.Record) { *r = rec })
	nodetest.Journalled(t, target.Node, handoff.Record{Move: m, Job: string(rec.ID), Role: handoff.RoleTarget, Peer: "a", PeerAddr: addr}, handoff.StateReceiving)
	var r api.MoveRecord
	if code, body := told(t, target, nodetest.Owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || r.From != "a" || len(r.Rounds) != 1 || len(r.Steps) != 1 || r.Partial != "" {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := told(t, target, nodetest.Stranger, "/v1/moves/"+string(m), nil); code != http.StatusNotFound {
		t.Errorf("a nodetest.Stranger gets %d", code)
	}
	// A third node, where a command for the job was typed that the source answered.
	third := newAgent(t)
	third.Config.Node, third.Identity = "c", ca.Node(t, "c")
	nodetest.Known(t, third.Node, func(r *job.Record) { *r = rec; r.MovedTo = &job.Moved{Node: "a", Addr: addr} })
	if code, body := told(t, third, nodetest.Owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || len(r.Rounds) != 1 {
		t.Errorf("from a third node: %d %s", code, body)
	}
	gone := nodetest.Journalled(t, target.Node, handoff.Record{Job: string(job.NewID()), Role: handoff.RoleTarget, Peer: "z", PeerAddr: "127.0.0.1:1"}, handoff.StateReceiving)
	if code, body := told(t, target, nodetest.Operator, "/v1/moves/"+string(gone.Move), &r); code != http.StatusOK || r.From != "z" || r.To != "b" || !strings.Contains(r.Partial, "z, which keeps the record") {
		t.Errorf("without the source: %d %s", code, body)
	}
}
