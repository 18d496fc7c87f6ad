package source

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// WithDiagnosis adds the telling lines of CRIU's log to e, and the remedy where one is known.
func WithDiagnosis(e *api.Error, err error) *api.Error {
	var failure *criu.Error
	if errors.As(err, &failure) {
		if len(failure.Lines) > 0 {
			e.Message += "\nCRIU's log:\n  " + strings.Join(failure.Lines, "\n  ")
		}
		if failure.Remedy != "" {
			e.Hint = failure.Remedy
		}
	}
	var remote *transport.Error
	if errors.As(err, &remote) && remote.Hint != "" {
		e.Hint = remote.Hint
	}
	return e
}

// AbortError is the error of a move or checkpoint that left the job where it was.
func (j *Job) AbortError(err error, where, hint string) *api.Error {
	e := WithDiagnosis(&api.Error{Code: api.CodeAborted, Message: err.Error(), Where: where, Hint: hint}, err)
	if by, ok := checkpoint.AsSuspended(err); ok {
		e.Where, e.Hint = "on "+j.sources.Config.Node+", suspended", by.ResumeHint()
	}
	e.Findings = AsFindings(j.recheck(err))
	return e
}

// recheck runs preflight again on a job that CRIU, or a Source, has refused: something may have
// come during a long warm-up. A finding need not be the cause.
func (j *Job) recheck(err error) []preflight.Finding {
	var failure *criu.Error
	var obstacle *carry.Obstacle
	known := errors.As(err, &failure) || errors.As(err, &obstacle) || errors.Is(err, checkpoint.ErrExecRunning) || errors.Is(err, errKeys)
	if j == nil || !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(j.sources.Life, 10*time.Second)
	defer cancel()
	look, lookErr := preflight.CheckJob(ctx, j.Rec, j.Src.Init, j.Src.Cgroup, j.Src.CRIU)
	if lookErr != nil {
		j.sources.Log.Warn("why CRIU refused the job was not found", logkey.Job, j.Rec.ID, logkey.Err, lookErr)
		return nil
	}
	return look.Findings
}
