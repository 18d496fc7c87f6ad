package source

import (
	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/preflight"
)

// AsFindings are preflight's findings as the API has them.
func AsFindings(list []preflight.Finding) []api.Finding {
	out := make([]api.Finding, len(list))
	for i, f := range list {
		out[i] = api.Finding{Code: string(f.Code), Cause: f.Cause, Remedy: f.Remedy}
	}
	return out
}
