package source

import (
	"context"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/preflight"
)

// CheckLeave is what the job needs of its target. It fails with preflight's findings if the job cannot
// leave.
func (j *Job) CheckLeave(ctx context.Context) (preflight.Needs, error) {
	if err := j.checkSuspended(); err != nil {
		return preflight.Needs{}, err
	}
	needs, findings, err := preflight.CheckJob(ctx, j.Rec, j.Src.Init, j.Src.Cgroup, j.Src.CRIU)
	if err != nil {
		return needs, err
	}
	needs.Eager = j.Src.Eager
	if needs.CPUs, err = affinity.BoundIn(j.Src.Init); err != nil {
		return needs, err
	}
	needs.KeepCPUs = j.Src.Affinity == affinity.Keep
	short, err := preflight.CheckImageRoom(needs, j.sources.Paths.Memory)
	if findings = append(findings, short...); err == nil && len(findings) > 0 {
		err = peer.Refused(AsFindings(findings))
	}
	return needs, err
}

// checkSuspended refuses a job that is frozen, which no move has done: none may be under way.
func (j *Job) checkSuspended() error {
	by, err := checkpoint.FindSuspension(j.Src.Cgroup)
	if err != nil || by == nil {
		return err
	}
	return node.Suspended(j.Rec.ID, j.sources.Config.Node, by)
}

// Close ends sending and pulling, and frees what they kept of the memory.
func (j *Job) Close() {
	j.Sending.end()
	j.endPull()
	if err := j.Src.Close(); err != nil {
		j.sources.Log.Error("memory of a move", logkey.Err, err)
	}
}
