package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

func TestEveryOutcomeOfAMoveHasItsExitStatusAndSaysWhereTheJobIs(t *testing.T) {
	cause := errors.New("the cause")
	wrapped := func(kind error) error { return fmt.Errorf("move: %w", errors.Join(kind, cause)) }
	for _, c := range []struct {
		outcome handoff.Outcome
		err     error
		exit    int
		where   string
	}{
		{handoff.OutcomeMoved, nil, api.ExitDone, ""},
		{handoff.OutcomeUnclean, wrapped(handoff.ErrUnclean), api.ExitDone, ""},
		{handoff.OutcomeAborted, wrapped(handoff.ErrAborted), api.ExitAborted, "on here, running"},
		{handoff.OutcomeAborted, errors.Join(handoff.ErrAborted, context.Canceled), api.ExitCancelled, "on here, running"},
		{handoff.OutcomeAborted, errors.Join(handoff.ErrAborted, refused(nil)), api.ExitRefused, "on here, running"},
		{handoff.OutcomeInDoubt, wrapped(handoff.ErrInDoubt), api.ExitInDoubt, "frozen on here, or running on there"},
		{handoff.OutcomeInDoubt, errors.Join(handoff.ErrInDoubt, context.Canceled), api.ExitInDoubt, "frozen on here, or running on there"},
		{handoff.OutcomeRefused, cause, api.ExitAborted, "on here, running"},
	} {
		a := newAgent(t)
		m := &movement{a: a, id: handoff.NewMoveID(), req: api.MoveRequest{Node: "there"}, rec: job.Record{ID: job.NewID(), Epoch: 3}}
		res, err := m.conclude(c.outcome, c.err, time.Second)
		if got := api.ExitStatus(err); got != c.exit {
			t.Errorf("%s: exit status %d, want %d (%v)", c.outcome, got, c.exit, err)
			continue
		}
		if err == nil {
			if res.Node != "there" || res.Epoch != 3 || res.Downtime != time.Second {
				t.Errorf("%s: %+v", c.outcome, res)
			}
			if left := c.outcome == handoff.OutcomeUnclean; left != (res.CleanupLeft != "") || (left && !strings.Contains(res.CleanupLeft, "the cause")) {
				t.Errorf("%s: left behind %q", c.outcome, res.CleanupLeft)
			}
			continue
		}
		if e := asError(err); e.Where != c.where || e.Hint == "" && c.exit != api.ExitCancelled || res != nil {
			t.Errorf("%s: %+v", c.outcome, e)
		}
	}
}

func TestADiagnosisIsAddedToAnAbort(t *testing.T) {
	m := &movement{a: newAgent(t), req: api.MoveRequest{Node: "there"}}
	err := m.explain(fmt.Errorf("dump: %w", &criu.Error{Op: "dump", Failure: criu.Failure{Lines: []string{"Error (x): bad"}, Remedy: "do this"}, Err: errors.New("failed")}))
	if e := asError(err); e.Code != api.CodeAborted || !strings.Contains(e.Message, "Error (x): bad") || e.Hint != "do this" {
		t.Errorf("%+v", e)
	}
	err = m.explain(fmt.Errorf("prepare: %w", &transport.Error{Code: "failed", Message: "no room", Hint: "make room"}))
	if e := asError(err); e.Code != api.CodeAborted || !strings.Contains(e.Message, "no room") || e.Hint != "make room" {
		t.Errorf("%+v", e)
	}
}

func TestWhatEndsACheckpointOrRestoreSaysWhereTheJobIs(t *testing.T) {
	a := newAgent(t)
	s := &saving{a: a, rec: job.Record{ID: job.NewID()}}
	b := &bringing{a: a, req: api.RestoreRequest{Dir: "/saved"}}
	for _, c := range []struct {
		explain func(error) error
		err     error
		code    api.Code
		where   string
	}{
		{s.explain, errors.New("no room"), api.CodeAborted, "on here, running"},
		{s.explain, context.Canceled, api.CodeCancelled, "on here, running"},
		{s.explain, refused(nil), api.CodeRefused, "on here, running"},
		{b.explain, errors.New("no room"), api.CodeFailed, "in /saved, saved"},
		{b.explain, context.Canceled, api.CodeCancelled, "in /saved, saved"},
		{b.explain, refused(nil), api.CodeRefused, "in /saved, saved"},
	} {
		e := asError(c.explain(c.err))
		if e.Code != c.code || e.Where != c.where || strings.Contains(e.Message, "the move") {
			t.Errorf("%v: %+v", c.err, e)
		}
	}
}

// events decodes what an account told.
func events(t *testing.T, out *bytes.Buffer) (list []api.Event) {
	t.Helper()
	for dec := json.NewDecoder(out); dec.More(); {
		var e api.Event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

func TestAnAccountTellsPhasesInOrderAndTheEndOnceAndLast(t *testing.T) {
	var out bytes.Buffer
	read := int64(0)
	tell := newAccount(&out, "j", "m", func(e *api.Event) { read++; e.Read = read })
	phases := []api.Phase{api.PhasePreflight, api.PhaseWarmup, api.PhaseFreeze, api.PhaseDump, api.PhaseFreeze}
	for _, p := range phases {
		tell.enter(p, "note of "+string(p))
	}
	tell.end(&api.Result{Job: "j"}, nil)
	list := events(t, &out)
	var seen []api.Phase
	for i, e := range list {
		if e.Job != "j" || e.Move != "m" || (i > 0 && (e.Read <= list[i-1].Read || e.At.Before(list[i-1].At))) {
			t.Errorf("event %d: %+v", i, e)
		}
		if (e.Done != nil) != (i == len(list)-1) || e.Error != nil {
			t.Errorf("event %d ends it: %+v", i, e)
		}
		if e.Note != "" {
			seen = append(seen, e.Phase)
		}
	}
	if fmt.Sprint(seen) != fmt.Sprint(phases) {
		t.Errorf("told %v", seen)
	}
	done := list[len(list)-1].Done
	if len(done.Phases) != 4 || done.Took <= 0 || done.Read != read {
		t.Errorf("ended with %+v", done)
	}
}

func TestAnAccountOfAFailureEndsWithTheError(t *testing.T) {
	var out bytes.Buffer
	tell := newAccount(&out, "j", "m", nil)
	tell.enter(api.PhaseDump, "")
	tell.end(nil, errors.New("no room"))
	list := events(t, &out)
	if last := list[len(list)-1]; last.Error == nil || last.Error.Code != api.CodeFailed || last.Error.Message != "no room" || last.Done != nil {
		t.Errorf("ended with %+v", last)
	}
}

// deaf is a listener that has left.
type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, errors.New("nobody listens") }

func TestAnAccountWithoutAListenerHoldsNothingUp(t *testing.T) {
	var none *account
	none.enter(api.PhaseDump, "") // recovery has none
	for _, tell := range []*account{newAccount(io.Discard, "j", "m", nil), newAccount(deaf{}, "j", "m", nil)} {
		tell.enter(api.PhaseDump, "")
		tell.end(&api.Result{}, nil)
	}
}

func TestLogsAreKeptFromTheirEndAndNotForEver(t *testing.T) {
	a, src := newAgent(t), filepath.Join(t.TempDir(), "dump.log")
	if got := a.keepLog(src, "none"); got != "" {
		t.Errorf("a log that is not there is kept at %s", got)
	}
	text := strings.Repeat("x", keptSize) + "the end"
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var last string
	for i := range keptLogs + 5 {
		last = a.keepLog(src, fmt.Sprintf("m%02d-dump.log", i))
		when := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(last, when, when); err != nil {
			t.Fatal(err)
		}
	}
	kept := names(t, filepath.Dir(last))
	if len(kept) != keptLogs || kept[0] != "m05-dump.log" || kept[len(kept)-1] != filepath.Base(last) {
		t.Errorf("kept are %v", kept)
	}
	data, err := os.ReadFile(last)
	if err != nil || len(data) != keptSize || !strings.HasSuffix(string(data), "the end") {
		t.Errorf("%d bytes (%v)", len(data), err)
	}
	if st, err := os.Stat(filepath.Dir(last)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v (%v)", st.Mode(), err)
	}
}

func faultSwitch(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(faultSysctl)
	if err != nil {
		testenv.Missing(t, "this kernel has no userfaultfd switch: %v", err)
	}
	return strings.TrimSpace(string(data))
}

func TestTheFaultSwitchIsOnAsLongAsSomebodyNeedsIt(t *testing.T) {
	testenv.NeedRoot(t)
	if faultSwitch(t) == "1" {
		testenv.Missing(t, "vm.unprivileged_userfaultfd is on, by the operator or by an agent that restores just now")
	}
	var first, second func() error
	for _, done := range []*func() error{&first, &second} {
		var err error
		if *done, err = openFaultAccess(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		do   func() error
		want string
	}{{closeFaultAccess, "1"}, {first, "1"}, {second, "0"}, {closeFaultAccess, "0"}} {
		if err := step.do(); err != nil {
			t.Error(err)
		}
		if got := faultSwitch(t); got != step.want {
			t.Errorf("the switch is %s, want %s", got, step.want)
		}
	}
}

func TestTheFaultSwitchIsOffAfterManyUsersAtOnce(t *testing.T) {
	testenv.NeedRoot(t)
	if faultSwitch(t) == "1" {
		testenv.Missing(t, "vm.unprivileged_userfaultfd is on, by the operator or by an agent that restores just now")
	}
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for range 20 {
				done, err := openFaultAccess()
				if err != nil {
					t.Error(err)
					return
				}
				if data, err := os.ReadFile(faultSysctl); err != nil || strings.TrimSpace(string(data)) != "1" {
					t.Errorf("the switch is %s (%v) while it is needed", data, err)
				}
				if err := done(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
	if got := faultSwitch(t); got != "0" {
		t.Errorf("the switch is %s", got)
	}
}

func TestWhoHearsTheEndOfAMoveMayBeginAnother(t *testing.T) {
	var out bytes.Buffer
	var before string
	tell := newAccount(&out, "j", "m", nil)
	tell.end(nil, errors.New("no room"), func() { before += out.String() + "1" }, func() { before += "2" })
	if before != "12" || !strings.Contains(out.String(), "no room") {
		t.Errorf("the end was told before the job was free: %q, then %q", before, out.String())
	}
}
