package launch

import (
	"fmt"
	"strings"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/job"
)

// CheckRequest refuses a request that sets what the node decides: the kernel names a job's user,
// and the agent chooses its ids outside of a user namespace.
func CheckRequest(s job.Spec) error {
	var said []string
	for _, own := range []struct {
		field string
		is    bool
	}{
		{"uid", s.UID != 0}, {"gid", s.GID != 0}, {"groups", len(s.Groups) > 0}, {"umask", s.Umask != 0}, {"uid_base", s.UIDBase != 0},
	} {
		if own.is {
			said = append(said, own.field)
		}
	}
	if len(said) == 0 {
		return nil
	}
	return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("%s: the node decides that, not who asks for a job", strings.Join(said, ", ")),
		Where: caller.NotStarted, Hint: "leave it out of the request's spec, as `migrate run` does"}
}

// ArrivingRecord is the record of a job that comes from another node or a directory, without the
// fields that are about the node that it was on.
func ArrivingRecord(rec job.Record) job.Record {
	rec.Foreground, rec.Cgroup, rec.MovedTo, rec.Exit, rec.SavedIn, rec.FromMove = false, nil, nil, nil, "", ""
	rec.Superseded, rec.Sealed = nil, ""
	return rec
}
