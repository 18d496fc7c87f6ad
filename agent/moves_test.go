package agent

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

	"github.com/migrate-hpc/migrate/testenv"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// told is the answer to a GET, decoded into v if it is a good one.
func told(t *testing.T, a *Agent, c caller, path string, v any) (status int, body string) {
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
func (a *Agent) attempt(t *testing.T, rec job.Record, err error) handoff.MoveID {
	t.Helper()
	m := &movement{a: a, rec: rec, req: api.MoveRequest{Node: "there"}, id: handoff.NewMoveID()}
	m.tell = newAccount(io.Discard, rec.ID, string(m.id), m.sizes)
	m.tell.keep = m.keeper()
	for _, p := range []api.Phase{api.PhasePreflight, api.PhaseWarmup} {
		m.tell.enter(p, "")
	}
	m.tell.round(api.Round{Number: 1, Scanned: 4096, Reason: "goes on"})
	for _, p := range []api.Phase{api.PhaseFreeze, api.PhaseDump, api.PhaseResidue, api.PhasePark, api.PhaseCommit, api.PhaseResume, api.PhaseRelease} {
		m.tell.enter(p, "")
	}
	m.tell.end(&api.Result{Downtime: time.Nanosecond}, err)
	return m.id
}

// journalled writes the states of a move that never had an agent.
func (a *Agent) journalled(t *testing.T, rec handoff.Record, states ...handoff.State) handoff.Record {
	t.Helper()
	if rec.Move == "" {
		rec.Move = handoff.NewMoveID()
	}
	rec.Kind, rec.Epoch, rec.BootID = cmp.Or(rec.Kind, handoff.KindMove), 1, orElse(rec.BootID, a.boot)
	for _, rec.State = range states {
		if err := a.journal.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	return rec
}

func TestTheRecordOfAMoveTellsPhasesRoundsAndHowItEnded(t *testing.T) {
	a := newAgent(t)
	rec := a.known(t, func(r *job.Record) { r.Spec.Name = "sim" })
	for _, c := range []struct {
		err  error
		want api.MoveState
	}{
		{nil, api.MoveDone},
		{refused([]api.Finding{{Code: "cpu"}}), api.MoveRefused},
		{&api.Error{Code: api.CodeSuspended, Message: "suspended"}, api.MoveRefused},
		{&api.Error{Code: api.CodeAborted, Message: "no room"}, api.MoveAborted},
		{&api.Error{Code: api.CodeCancelled, Message: "enough"}, api.MoveCancelled},
		{errors.New("no route"), api.MoveFailed},
	} {
		m := a.attempt(t, rec, c.err)
		var r api.MoveRecord
		if code, body := told(t, a, owner, "/v1/moves/"+string(m), &r); code != http.StatusOK {
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
		rec := a.known(t, nil)
		m := a.attempt(t, rec, &api.Error{Code: api.CodeInDoubt, Message: "in doubt"})
		a.journalled(t, handoff.Record{Move: m, Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, c.states...)
		var r api.MoveRecord
		if code, body := told(t, a, owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || r.State != c.want || len(r.Steps) != len(c.states) {
			t.Errorf("%v: %d %s", c.states, code, body)
		}
		if (r.WaitFor != "") != (c.want == api.MoveWaiting) || (r.Error != nil) == (c.want == api.MoveDone) {
			t.Errorf("%v: waits for %q, reason %+v", c.states, r.WaitFor, r.Error)
		}
	}
}

func TestAMoveOfAnotherUserIsAsUnknownAsNone(t *testing.T) {
	a := newAgent(t)
	rec := a.known(t, nil)
	kept := a.attempt(t, rec, nil)
	only := a.journalled(t, handoff.Record{Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, handoff.StateFrozen)
	nobodys := a.journalled(t, handoff.Record{Job: string(job.NewID()), Role: handoff.RoleTarget, Peer: "there"}, handoff.StateReceiving)
	none := "mffffffffffffffff"
	_, want := told(t, a, stranger, "/v1/moves/"+none, nil)
	for _, m := range []handoff.MoveID{kept, only.Move, nobodys.Move} {
		code, body := told(t, a, stranger, "/v1/moves/"+string(m), nil)
		if code != http.StatusNotFound || strings.ReplaceAll(body, string(m), none) != want {
			t.Errorf("%s: %d %s, want %s", m, code, body, want)
		}
		var r api.MoveRecord
		if code, body := told(t, a, operator, "/v1/moves/"+string(m), &r); code != http.StatusOK {
			t.Errorf("root asks for %s: %d %s", m, code, body)
		}
	}
	for _, path := range []string{"/v1/moves", "/v1/moves?all=true"} {
		if code, body := told(t, a, stranger, path, new([]api.MoveSummary)); code != http.StatusOK || strings.TrimSpace(body) != "[]" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := told(t, a, operator, "/v1/moves/..%2fjobs", nil); code != http.StatusNotFound {
		t.Errorf("a path for a move: %d", code)
	}
}

func TestMovesAreListedUnfinishedFirstAndOthersOnRequest(t *testing.T) {
	a := newAgent(t)
	rec := a.known(t, nil)
	refused := a.attempt(t, rec, refused(nil))
	moved := a.journalled(t, handoff.Record{Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there"}, handoff.StateFrozen, handoff.StateCommitted, handoff.StateReleased)
	waits := a.journalled(t, handoff.Record{Job: string(rec.ID), Role: handoff.RoleTarget, Peer: "there"}, handoff.StateReceiving, handoff.StatePrepared)
	saved := a.journalled(t, handoff.Record{Job: string(a.known(t, nil).ID), Kind: handoff.KindCheckpoint, Role: handoff.RoleSource, Peer: "here", Extra: json.RawMessage(`{"dir":"/saved"}`)}, handoff.StateFrozen)
	var list []api.MoveSummary
	told(t, a, owner, "/v1/moves", &list)
	if len(list) != 2 || list[0].Move != string(saved.Move) || list[0].Role != "checkpoint" || list[0].Peer != "/saved" || list[1].Move != string(waits.Move) ||
		list[1].State != "prepared" || list[1].Finished || list[1].WaitFor == "" {
		t.Errorf("unfinished: %+v", list)
	}
	told(t, a, owner, "/v1/moves?all=true", &list)
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
	source, target := newAgent(t), newAgent(t)
	source.cfg.Node, source.id = "a", ca.Node(t, "a")
	target.cfg.Node, target.id = "b", ca.Node(t, "b")
	addr := source.reachable(t)
	rec := source.known(t, nil)
	m := source.attempt(t, rec, nil)
	target.known(t, func(r *job.Record) { *r = rec })
	target.journalled(t, handoff.Record{Move: m, Job: string(rec.ID), Role: handoff.RoleTarget, Peer: "a", PeerAddr: addr}, handoff.StateReceiving)
	var r api.MoveRecord
	if code, body := told(t, target, owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || r.From != "a" || len(r.Rounds) != 1 || len(r.Steps) != 1 || r.Partial != "" {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := told(t, target, stranger, "/v1/moves/"+string(m), nil); code != http.StatusNotFound {
		t.Errorf("a stranger gets %d", code)
	}
	// A third node, where a command for the job was typed that the source answered.
	third := newAgent(t)
	third.cfg.Node, third.id = "c", ca.Node(t, "c")
	third.known(t, func(r *job.Record) { *r = rec; r.MovedTo = &job.Moved{Node: "a", Addr: addr} })
	if code, body := told(t, third, owner, "/v1/moves/"+string(m), &r); code != http.StatusOK || len(r.Rounds) != 1 {
		t.Errorf("from a third node: %d %s", code, body)
	}
	gone := target.journalled(t, handoff.Record{Job: string(job.NewID()), Role: handoff.RoleTarget, Peer: "z", PeerAddr: "127.0.0.1:1"}, handoff.StateReceiving)
	if code, body := told(t, target, operator, "/v1/moves/"+string(gone.Move), &r); code != http.StatusOK || r.From != "z" || r.To != "b" || !strings.Contains(r.Partial, "z, which keeps the record") {
		t.Errorf("without the source: %d %s", code, body)
	}
}

func TestOfManyRecordsTheNewestAreKept(t *testing.T) {
	s := newAgent(t).records
	var first, last api.MoveRecord
	for i := range keptRecords + 3 {
		last = api.MoveRecord{Move: string(handoff.NewMoveID())}
		if i == 0 {
			first = last
		}
		if err := s.write(last); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(time.Duration(i-2*keptRecords) * time.Minute)
		if err := os.Chtimes(s.path(last.Move), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if kept := s.list(); len(kept) != keptRecords {
		t.Errorf("%d are kept", len(kept))
	}
	if _, err := s.get(handoff.MoveID(first.Move)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the oldest: %v", err)
	}
	if _, err := s.get(handoff.MoveID(last.Move)); err != nil {
		t.Error(err)
	}
}

func TestARecordOfTheFirstVersionsKeepsItsDowntime(t *testing.T) {
	s := newAgent(t).records
	for text, want := range map[string]time.Duration{`"stood_still":5`: 5, `"downtime":7`: 7, `"took":1`: 0} {
		m := handoff.NewMoveID()
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(string(m)), []byte(`{"move":"`+string(m)+`",`+text+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := s.get(m); err != nil || r.Downtime != want {
			t.Errorf("%s: %v, %v", text, r.Downtime, err)
		}
	}
}

func TestAPullGivesItsTurnToTheNextMove(t *testing.T) {
	for mode, want := range map[api.Mode]int{api.ModePostCopy: 1, api.ModePreCopy: 0} {
		given := 0
		m := &movement{mode: mode, dep: &departure{}, give: func() { given++ }, tell: newAccount(io.Discard, "j", "m", nil)}
		peer := &remote{}
		confirm := time.AfterFunc(time.Hour, func() {})
		m.watch(peer, confirm)
		peer.ran()
		m.tell.end(&api.Result{}, nil)
		if given != want || confirm.Stop() {
			t.Errorf("%s: the turn was given %d times as soon as the job ran, want %d", mode, given, want)
		}
	}
}
