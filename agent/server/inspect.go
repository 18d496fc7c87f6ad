package server

import (
	"net/http"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

func (s *jobServer) handleInspect(w http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
	v := s.View(r.Context(), rec)
	if v.Init == 0 {
		return httpjson.Reply(w, v)
	}
	// What the kernel does not tell, because the job ends just now, stays empty.
	v.Namespaces, _ = namespaces.Of(v.Init)
	v.Pids, _ = pidmap.InNamespace(v.Init)
	v.Clocks = node.ClocksOf(v.Init)
	v.Caught = handledSignals(v.Init)
	return httpjson.Reply(w, v)
}

// handledSignals is the mask of signals that a process handles or blocks. The kernel gives PID 1 of
// a pid namespace no others, SIGKILL and SIGSTOP excepted.
func handledSignals(pid int) *uint64 {
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return nil
	}
	mask, err := status.Handled()
	if err != nil {
		return nil
	}
	return &mask
}
