package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
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
		{handoff.OutcomeAborted, errors.Join(handoff.ErrAborted, peer.Refused(nil)), api.ExitRefused, "on here, running"},
		{handoff.OutcomeInDoubt, wrapped(handoff.ErrInDoubt), api.ExitInDoubt, "frozen on here, or running on there"},
		{handoff.OutcomeInDoubt, errors.Join(handoff.ErrInDoubt, context.Canceled), api.ExitInDoubt, "frozen on here, or running on there"},
		{handoff.OutcomeRefused, cause, api.ExitAborted, "on here, running"},
	} {
		a := New(nodetest.New(t))
		m := &moveOp{a: a, id: handoff.NewMoveID(), req: api.MoveRequest{Node: "there"}, rec: job.Record{ID: job.NewID(), Epoch: 3}}
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
		if e := httpjson.ErrorOf(err); e.Where != c.where || e.Hint == "" && c.exit != api.ExitCancelled || res != nil {
			t.Errorf("%s: %+v", c.outcome, e)
		}
	}
}

func TestADiagnosisIsAddedToAnAbort(t *testing.T) {
	m := &moveOp{a: New(nodetest.New(t)), req: api.MoveRequest{Node: "there"}}
	err := m.explain(fmt.Errorf("dump: %w", &criu.Error{Op: "dump", Failure: criu.Failure{Lines: []string{"Error (x): bad"}, Remedy: "do this"}, Err: errors.New("failed")}))
	if e := httpjson.ErrorOf(err); e.Code != api.CodeAborted || !strings.Contains(e.Message, "Error (x): bad") || e.Hint != "do this" {
		t.Errorf("%+v", e)
	}
	err = m.explain(fmt.Errorf("prepare: %w", &transport.Error{Code: "failed", Message: "no room", Hint: "make room"}))
	if e := httpjson.ErrorOf(err); e.Code != api.CodeAborted || !strings.Contains(e.Message, "no room") || e.Hint != "make room" {
		t.Errorf("%+v", e)
	}
}

func TestWhatEndsACheckpointOrRestoreSaysWhereTheJobIs(t *testing.T) {
	a := New(nodetest.New(t))
	s := &checkpointOp{a: a, rec: job.Record{ID: job.NewID()}}
	b := &restoreOp{a: a, req: api.RestoreRequest{Dir: "/saved"}}
	for _, c := range []struct {
		explain func(error) error
		err     error
		code    api.Code
		where   string
	}{
		{s.explain, errors.New("no room"), api.CodeAborted, "on here, running"},
		{s.explain, context.Canceled, api.CodeCancelled, "on here, running"},
		{s.explain, peer.Refused([]api.Finding{{Code: "x"}}), api.CodeRefused, "on here, running"},
		{b.explain, errors.New("no room"), api.CodeFailed, "in /saved, saved"},
		{b.explain, context.Canceled, api.CodeCancelled, "in /saved, saved"},
		{b.explain, peer.Refused([]api.Finding{{Code: "x"}}), api.CodeRefused, "in /saved, saved"},
	} {
		e := httpjson.ErrorOf(c.explain(c.err))
		if e.Code != c.code || e.Where != c.where || strings.Contains(e.Message, "the move") {
			t.Errorf("%v: %+v", c.err, e)
		}
	}
}

func TestWhoHearsTheEndOfAMoveMayBeginAnother(t *testing.T) {
	var out bytes.Buffer
	var before string
	tell := progress.New(&out, "j", "m", nil)
	tell.End(nil, errors.New("no room"), func() { before += out.String() + "1" }, func() { before += "2" })
	if before != "12" || !strings.Contains(out.String(), "no room") {
		t.Errorf("the end was told before the job was free: %q, then %q", before, out.String())
	}
}
