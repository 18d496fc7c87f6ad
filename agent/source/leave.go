package source

import (
	"context"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/preflight"
)

// MayLeave is what the job asks of the node that it comes to, or why it cannot leave.
func (d *Job) MayLeave(ctx context.Context) (preflight.Needs, error) {
	if err := d.free(); err != nil {
		return preflight.Needs{}, err
	}
	needs, findings, err := preflight.CheckJob(ctx, d.Rec, d.Src.Init, d.Src.Cgroup, d.Src.CRIU)
	if err != nil {
		return needs, err
	}
	needs.Eager = d.Src.Eager
	short, err := preflight.CheckImageRoom(needs, d.A.Paths.Memory)
	if findings = append(findings, short...); err == nil && len(findings) > 0 {
		err = peer.Refused(AsFindings(findings))
	}
	return needs, err
}

// free refuses a job that somebody else keeps from running. No move of it may be under way.
func (d *Job) free() error {
	by, err := checkpoint.FindSuspension(d.Src.Cgroup)
	if err != nil || by == nil {
		return err
	}
	return node.Suspended(d.Rec.ID, d.A.Config.Node, by)
}

// Close frees what was kept of the memory that was sent.
func (d *Job) Close() {
	d.Sending.end()
	d.endPull()
	if err := d.Src.Close(); err != nil {
		d.A.Log.Error("memory of a move", logkey.Err, err)
	}
}
