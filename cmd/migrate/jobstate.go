package main

import (
	"fmt"

	"github.com/migrate-hpc/migrate/agent/api"
)

// label is the name of a job, or its id.
func label(j api.Job) string {
	if j.Spec.Name != "" {
		return j.Spec.Name
	}
	return string(j.ID)
}

// nodeOf is the node that a job is on.
func nodeOf(j api.Job) string {
	if j.MovedTo != nil {
		return j.MovedTo.Node
	}
	return j.Node
}

// state is a job's state in a word or two.
func state(j api.Job) string {
	if j.State != api.JobExited || j.Exit == nil {
		return string(j.State)
	}
	if j.Exit.Reason != "" {
		return "exited (output limit)"
	}
	if j.Superseded != nil {
		return "exited (superseded)"
	}
	if killedForMemory(j) {
		return "exited (out of memory)"
	}
	if j.Exit.Signal != 0 {
		return fmt.Sprintf("exited (%s)", signalName(j.Exit.Signal))
	}
	return fmt.Sprintf("exited (%d)", j.Exit.Code)
}

// killedForMemory tells whether a job failed, and the kernel killed a process of it for want of memory. A
// job that succeeds has coped with that.
func killedForMemory(j api.Job) bool {
	return j.Exit != nil && j.Exit.OOMKills > 0 && jobStatus(j) != 0
}

// outOfMemory says what the kernel did to such a job, and why.
func outOfMemory(j api.Job) string {
	what, limit := fmt.Sprintf("the kernel killed %d processes of it", j.Exit.OOMKills), "a limit above it or the node had no more"
	if j.Exit.OOMKills == 1 {
		what = "the kernel killed a process of it"
	}
	if most := j.Spec.Limits.MemoryBytes; most > 0 {
		limit = "--memory gave it " + size(most)
	}
	return what + " for want of memory: " + limit
}

// isOver tells whether a job runs nowhere and will not run again by itself.
func isOver(j api.Job) bool {
	return j.State == api.JobExited || j.State == api.JobSaved || j.State == api.JobLost
}

// jobStatus is the exit status of a job that is over, as a shell would show it.
func jobStatus(j api.Job) int {
	if j.Exit.Signal != 0 {
		return 128 + j.Exit.Signal
	}
	return j.Exit.Code
}

// superseded says why an older copy of a job was ended.
func superseded(j api.Job) string {
	return fmt.Sprintf("it was brought back on %s, while %s was declared dead", j.Superseded.Node, j.Node)
}

// astrayNotice says that a job runs without its shim.
func astrayNotice(j api.Job) string {
	return fmt.Sprintf("job %s is astray: no shim answers for it, but %d of its processes run on %s; `migrate kill -s KILL %s` ends them", label(j), j.Tasks, j.Node, j.ID)
}

// endError is the end of a job as an error, nil for success.
func endError(j api.Job) error {
	switch {
	case j.State == api.JobSaved:
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s does not run here any more: it was saved", label(j)),
			Where: "in " + j.SavedIn + ", or where it was restored from there", Hint: "`migrate restore " + j.SavedIn + "` brings it back, or tells where it is"}
	case j.State == api.JobLost || j.Exit == nil:
		return &api.Error{Code: api.CodeFailed,
			Message: fmt.Sprintf("job %s is lost: node %s restarted, or the job's shim was killed, under it", label(j), j.Node),
			Hint:    "migrate rm " + string(j.ID) + " frees what it left behind"}
	case jobStatus(j) == 0:
		return nil
	}
	return exitStatus(jobStatus(j))
}
