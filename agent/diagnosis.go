package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/mqueue"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// withDiagnosis adds what CRIU's log says, and what to do about it where that
// is known.
func withDiagnosis(e *api.Error, err error) *api.Error {
	var failure *criu.Error
	if errors.As(err, &failure) {
		if len(failure.Lines) > 0 {
			e.Message += "\nCRIU's log:\n  " + strings.Join(failure.Lines, "\n  ")
		}
		if failure.Remedy != "" {
			e.Hint = failure.Remedy
		}
	}
	var told *transport.Error
	if errors.As(err, &told) && told.Hint != "" {
		e.Message, e.Hint = strings.Replace(e.Message, "; "+told.Hint, "", 1), told.Hint
	}
	return e
}

// aborted is the error of a move or checkpoint that left the job where it was.
func (d *departure) aborted(err error, where, hint string) *api.Error {
	e := withDiagnosis(&api.Error{Code: api.CodeAborted, Message: err.Error(), Where: where, Hint: hint}, err)
	if by, ok := checkpoint.AsSuspended(err); ok {
		e.Where, e.Hint = "on "+d.a.cfg.Node+", suspended", by.ResumeHint()
	}
	e.Findings = asFindings(d.lookAgain(err))
	return e
}

// lookAgain finds what stands in the way of a job that CRIU, or a Source, has refused. The
// preflight has not seen what came during a long warm-up. What it finds need not be the cause.
func (d *departure) lookAgain(err error) []preflight.Finding {
	var failure *criu.Error
	known := errors.As(err, &failure) || errors.Is(err, checkpoint.ErrExecRunning) || errors.Is(err, errKeys) || errors.Is(err, mqueue.ErrNotify)
	if d == nil || !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(d.a.life, 10*time.Second)
	defer cancel()
	_, findings, lookErr := preflight.CheckJob(ctx, d.rec, d.src.Init, d.src.Cgroup, d.src.CRIU)
	if lookErr != nil {
		d.a.log.Warn("why CRIU refused the job was not found", "job", d.rec.ID, "err", lookErr)
	}
	return findings
}

func asFindings(list []preflight.Finding) []api.Finding {
	out := make([]api.Finding, len(list))
	for i, f := range list {
		out[i] = api.Finding{Code: string(f.Code), Cause: f.Cause, Remedy: f.Remedy}
	}
	return out
}
