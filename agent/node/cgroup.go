package node

import (
	"context"
	"errors"
	"os"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// LinkName is the name of the node's end of a job's interface, "" for a job without a network.
func LinkName(rec job.Record) string {
	if !rec.Spec.Network.Bridged() {
		return ""
	}
	return "mg" + string(rec.ID[1:])
}

// CgroupName names a job's cgroup. Nodes that share a machine differ by their names in it.
func (n *Node) CgroupName(id job.ID) string { return "migrate-" + n.Config.Node + "-" + string(id) }

// RemoveLeftovers frees what a job whose shim has ended left on the node: cgroup, link, images and
// run directory. It ends tasks that are left.
func (n *Node) RemoveLeftovers(ctx context.Context, rec job.Record) error {
	cg := cgroup.Cgroup{Dirs: rec.Cgroup}
	var err error
	if cg.FreezerDir() != "" {
		err = errors.Join(cg.Kill(ctx), cg.Remove())
	}
	if link := LinkName(rec); link != "" {
		err = errors.Join(err, network.RemoveLink(link))
	}
	if rec.FromMove != "" { // its memory, if not all of it had arrived
		err = errors.Join(err, os.RemoveAll(n.Paths.Move(rec.FromMove)))
	}
	return errors.Join(err, os.RemoveAll(n.Paths.JobRun(rec.ID)))
}
