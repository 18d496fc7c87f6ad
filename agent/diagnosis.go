package agent

import (
	"errors"
	"strings"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/checkpoint/criu"
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
		e.Hint = told.Hint
	}
	return e
}

func asFindings(list []preflight.Finding) []api.Finding {
	out := make([]api.Finding, len(list))
	for i, f := range list {
		out[i] = api.Finding{Code: string(f.Code), Cause: f.Cause, Remedy: f.Remedy}
	}
	return out
}
