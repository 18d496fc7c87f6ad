package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/agent/transfer"
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
func (a *Server) attempt(t *testing.T, rec job.Record, err error) handoff.MoveID {
	t.Helper()
	m := &transfer.MoveOp{A: a, Rec: rec, Req: api.MoveRequest{Node: "there"}, ID: handoff.NewMoveID()}
	m.Tell = progress.New(io.Discard, rec.ID, string(m.ID), m.Sizes)
	m.Tell.Keep = m.Keeper()
	for _, p := range []api.Phase{api.PhasePreflight, api.PhaseWarmup} {
		m.Tell.Enter(p, "")
	}
	m.Tell.Round(api.Round{Number: 1, Scanned: 4096, Reason: "goes on"})
	for _, p := range []api.Phase{api.PhaseFreeze, api.PhaseDump, api.PhaseResidue, api.PhasePark, api.PhaseCommit, api.PhaseResume, api.PhaseRelease} {
		m.Tell.Enter(p, "")
	}
	m.Tell.End(&api.Result{Downtime: time.Nanosecond}, err)
	return m.ID
}

// Journalled writes the states of a move that never had an agent.
func (a *Server) Journalled(t *testing.T, rec handoff.Record, states ...handoff.State) handoff.Record {
	t.Helper()
	if rec.Move == "" {
		rec.Move = handoff.NewMoveID()
	}
	rec.Kind, rec.Epoch, rec.BootID = cmp.Or(rec.Kind, handoff.KindMove), 1, cmp.Or(rec.BootID, a.Boot)
	for _, rec.State = range states {
		if err := a.Journal.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	return rec
}

func TestTheRecordOfAMoveTellsPhasesRoundsAndHowItEnded(t *testing.T) {
	a := NewAgent(t)
	rec := a.Known(t, func(r *job.Record) { r.Spec.Name = "sim" })
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
		if code, body := told(t, a, Owner, "/v1/moves/"+string(m), &r); code != http.StatusOK {
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

func TestAMoveThatItsAgentLeftIsShownAsTheJournalHasIt(t *testing.T) {
	a := NewAgent(t)
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
		rec := a.Known(t, nil)
		m := a.attempt(t, rec, &api.Error{Code: api.CodeInDoubt, Message: "in doubt"})
		a.Journalled(t, handoff.Record{Move: m, Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, c.states...)
		var r api.MoveRecord
		if code, body := told(t, a, Owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || r.State != c.want || len(r.Steps) != len(c.states) {
			t.Errorf("%v: %d %s", c.states, code, body)
		}
		if (r.WaitFor != "") != (c.want == api.MoveWaiting) || (r.Error != nil) == (c.want == api.MoveDone) {
			t.Errorf("%v: waits for %q, reason %+v", c.states, r.WaitFor, r.Error)
		}
	}
}

func TestAMoveOfAnotherUserIsAsUnknownAsNone(t *testing.T) {
	a := NewAgent(t)
	rec := a.Known(t, nil)
	kept := a.attempt(t, rec, nil)
	only := a.Journalled(t, handoff.Record{Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, handoff.StateFrozen)
	nobodys := a.Journalled(t, handoff.Record{Job: string(job.NewID()), Role: handoff.RoleTarget, Peer: "there"}, handoff.StateReceiving)
	none := "mffffffffffffffff"
	_, want := told(t, a, stranger, "/v1/moves/"+none, nil)
	for _, m := range []handoff.MoveID{kept, only.Move, nobodys.Move} {
		code, body := told(t, a, stranger, "/v1/moves/"+string(m), nil)
		if code != http.StatusNotFound || strings.ReplaceAll(body, string(m), none) != want {
			t.Errorf("%s: %d %s, want %s", m, code, body, want)
		}
		var r api.MoveRecord
		if code, body := told(t, a, Operator, "/v1/moves/"+string(m), &r); code != http.StatusOK {
			t.Errorf("root asks for %s: %d %s", m, code, body)
		}
	}
	for _, path := range []string{"/v1/moves", "/v1/moves?all=true"} {
		if code, body := told(t, a, stranger, path, new([]api.MoveSummary)); code != http.StatusOK || strings.TrimSpace(body) != "[]" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := told(t, a, Operator, "/v1/moves/..%2fjobs", nil); code != http.StatusNotFound {
		t.Errorf("a path for a move: %d", code)
	}
}

func TestMovesAreListedUnfinishedFirstAndOthersOnRequest(t *testing.T) {
	a := NewAgent(t)
	rec := a.Known(t, nil)
	refused := a.attempt(t, rec, peer.Refused(nil))
	moved := a.Journalled(t, handoff.Record{Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, handoff.StateFrozen, handoff.StateCommitted, handoff.StateReleased)
	waits := a.Journalled(t, handoff.Record{Job: string(rec.ID), Role: handoff.RoleTarget, Peer: "there"}, handoff.StateReceiving, handoff.StatePrepared)
	saved := a.Journalled(t, handoff.Record{Job: string(a.Known(t, nil).ID), Kind: handoff.KindCheckpoint, Role: handoff.RoleSource, Peer: "here", Extra: json.RawMessage(`{"dir":"/saved"}`)}, handoff.StateFrozen)
	var list []api.MoveSummary
	told(t, a, Owner, "/v1/moves", &list)
	if len(list) != 2 || list[0].Move != string(saved.Move) || list[0].Role != "checkpoint" || list[0].Peer != "/saved" || list[1].Move != string(waits.Move) ||
		list[1].State != "prepared" || list[1].Finished || list[1].WaitFor == "" {
		t.Errorf("unfinished: %+v", list)
	}
	told(t, a, Owner, "/v1/moves?all=true", &list)
	var names []string
	for _, m := range list {
		names = append(names, m.Move)
	}
	if want := fmt.Sprint([]handoff.MoveID{saved.Move, waits.Move, moved.Move, refused}); fmt.Sprint(names) != want || list[3].State != "refused" || !list[3].Finished || list[3].Note == "" {
		t.Errorf("all: %v, want %v: %+v", names, want, list[3])
	}
}

func TestTheTargetAsksTheSourceForTheRecord(t *testing.T) {
	ca := testenv.NewAuthority(t)
	source, target := NewAgent(t), NewAgent(t)
	source.Config.Node, source.Identity = "a", ca.Node(t, "a")
	target.Config.Node, target.Identity = "b", ca.Node(t, "b")
	addr := source.reachable(t)
	rec := source.Known(t, nil)
	m := source.attempt(t, rec, nil)
	target.Known(t, func(r *job.Record) { *r = rec })
	target.Journalled(t, handoff.Record{Move: m, Job: string(rec.ID), Role: handoff.RoleTarget, Peer: "a", PeerAddr: addr}, handoff.StateReceiving)
	var r api.MoveRecord
	if code, body := told(t, target, Owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || r.From != "a" || len(r.Rounds) != 1 || len(r.Steps) != 1 || r.Partial != "" {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := told(t, target, stranger, "/v1/moves/"+string(m), nil); code != http.StatusNotFound {
		t.Errorf("a stranger gets %d", code)
	}
	// A third node, where a command for the job was typed that the source answered.
	third := NewAgent(t)
	third.Config.Node, third.Identity = "c", ca.Node(t, "c")
	third.Known(t, func(r *job.Record) { *r = rec; r.MovedTo = &job.Moved{Node: "a", Addr: addr} })
	if code, body := told(t, third, Owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || len(r.Rounds) != 1 {
		t.Errorf("from a third node: %d %s", code, body)
	}
	gone := target.Journalled(t, handoff.Record{Job: string(job.NewID()), Role: handoff.RoleTarget, Peer: "z", PeerAddr: "127.0.0.1:1"}, handoff.StateReceiving)
	if code, body := told(t, target, Operator, "/v1/moves/"+string(gone.Move), &r); code != http.StatusOK || r.From != "z" || r.To != "b" || !strings.Contains(r.Partial, "z, which keeps the record") {
		t.Errorf("without the source: %d %s", code, body)
	}
}

func TestOfManyRecordsTheNewestAreKept(t *testing.T) {
	s := NewAgent(t).Records
	var first, last api.MoveRecord
	for i := range progress.KeptRecords + 3 {
		last = api.MoveRecord{Move: string(handoff.NewMoveID())}
		if i == 0 {
			first = last
		}
		if err := s.Write(last); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(time.Duration(i-2*progress.KeptRecords) * time.Minute)
		if err := os.Chtimes(s.Path(last.Move), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if kept := s.List(); len(kept) != progress.KeptRecords {
		t.Errorf("%d are kept", len(kept))
	}
	if _, err := s.Get(handoff.MoveID(first.Move)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the oldest: %v", err)
	}
	if _, err := s.Get(handoff.MoveID(last.Move)); err != nil {
		t.Error(err)
	}
}

func TestARecordOfTheFirstVersionsKeepsItsDowntime(t *testing.T) {
	s := NewAgent(t).Records
	for text, want := range map[string]time.Duration{`"stood_still":5`: 5, `"downtime":7`: 7, `"took":1`: 0} {
		m := handoff.NewMoveID()
		if err := os.MkdirAll(s.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.Path(string(m)), []byte(`{"move":"`+string(m)+`",`+text+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Get(m); err != nil || r.Downtime != want {
			t.Errorf("%s: %v, %v", text, r.Downtime, err)
		}
	}
}

func TestAPullGivesItsTurnToTheNextMove(t *testing.T) {
	for mode, want := range map[api.Mode]int{api.ModePostCopy: 1, api.ModePreCopy: 0} {
		given := 0
		m := &transfer.MoveOp{Mode: mode, Dep: &source.Job{}, Give: func() { given++ }, Tell: progress.New(io.Discard, "j", "m", nil)}
		peer := &peer.Client{}
		confirm := time.AfterFunc(time.Hour, func() {})
		m.Watch(peer, confirm)
		peer.Ran()
		m.Tell.End(&api.Result{}, nil)
		if given != want || confirm.Stop() {
			t.Errorf("%s: the turn was given %d times as soon as the job ran, want %d", mode, given, want)
		}
	}
}
