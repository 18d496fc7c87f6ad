package node

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

// DamagedRecord stands in for a record that cannot be read. It holds what output files, the shim's
// directory and the kernel tell of the job.
func (n *Node) DamagedRecord(e *job.RecordError) job.Record {
	rec := job.Record{ID: e.ID, Epoch: 1} // a move may have been tried
	if info, err := os.Lstat(filepath.Join(n.IODir(e.ID), "stdout")); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			rec.Spec.UID, rec.Spec.GID = st.Uid, st.Gid
		}
	}
	if info, err := os.Lstat(n.Jobs.Dir(e.ID)); err == nil {
		rec.Created = info.ModTime()
	}
	if cg, err := shim.CgroupOf(n.Paths.JobRun(e.ID)); err == nil {
		rec.Cgroup = cg.Dirs
	} else if cg, err := cgroup.Find(n.CgroupName(e.ID)); err == nil { // the run directory is lost, too
		rec.Cgroup = cg.Dirs
	}
	return rec
}
