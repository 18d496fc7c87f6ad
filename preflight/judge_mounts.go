package preflight

import "github.com/migrate-hpc/migrate/carry/table"

// remade are the types of file systems that CRIU mounts anew, with their content
// where they have any (criu/filesystems.c).
var remade = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "tmpfs": true, "devpts": true, "mqueue": true, "binfmt_misc": true,
	"pstore": true, "securityfs": true, "fusectl": true, "debugfs": true, "tracefs": true, "cgroup": true, "cgroup2": true,
}

// judgeMounts is for what has been mounted inside the job since its start.
func (j *jobFacts) judgeMounts(r *report) {
	devices := map[string]bool{} // of the mounts that a move names by path
	for _, m := range j.view.mounts {
		if j.view.byMove(m, j.UserNS) {
			devices[m.Device] = true
		}
	}
	j.judgeCovered(r)
	for _, m := range j.view.mounts {
		// A part of what is there anyway, bound to another place, is bound again.
		if remade[m.Type] || devices[m.Device] {
			continue
		}
		r.add(MountUnsupported, "unmount it before the move: `umount "+quoted(m.Target)+"` inside the job; to keep it, mount it on the nodes and start the job with --bind",
			"the job has mounted a file system of type %s at %s, which cannot be mounted anew on another node", m.Type, m.Target)
	}
}

// judgeCovered is for mounts on those that we carry: both have the same name.
func (j *jobFacts) judgeCovered(r *report) {
	for _, dir := range table.Carried.BuiltMounts() {
		n := 0
		for _, m := range j.view.mounts {
			if m.Target == dir {
				n++
			}
		}
		if n > 1 {
			r.add(MountUnsupported, "unmount it before the move: `umount "+dir+"` inside the job",
				"the job has mounted something over its %s, whose files could not be told from those beneath", dir)
		}
	}
}
