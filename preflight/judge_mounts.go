package preflight

import (
	"slices"

	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/procfs"
)

// remade are the types of file systems that CRIU mounts anew, with their content
// where they have any (criu/filesystems.c).
var remade = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "tmpfs": true, "devpts": true, "mqueue": true, "binfmt_misc": true,
	"pstore": true, "securityfs": true, "fusectl": true, "debugfs": true, "tracefs": true, "cgroup": true, "cgroup2": true,
}

// judgeMounts is for what has been mounted inside the job since its start.
func (j *jobFacts) judgeMounts(r *report) {
	var named []procfs.MountPoint // those that a move names by path
	for _, m := range j.view.mounts {
		if j.view.byMove(m, j.UserNS) {
			named = append(named, m)
		}
	}
	j.judgeCovered(r)
	all := slices.Clone(j.view.mounts)
	for _, n := range j.view.nested {
		all = append(all, n.mounts...)
	}
	for _, m := range all {
		judgeMountPath(r, m)
		// A part of what is there anyway, bound to another place, is bound again.
		if remade[m.Type] || slices.ContainsFunc(named, func(n procfs.MountPoint) bool { return n.Device == m.Device && within(m.Root, n.Root) }) {
			continue
		}
		r.add(MountUnsupported, "unmount it before the move: `umount "+quoted(m.Target)+"` inside the job; to keep it, mount it on the nodes and start the job with --bind",
			"the job has mounted a file system of type %s at %s, which cannot be mounted anew on another node", m.Type, m.Target)
	}
}

// maxMountPath bounds the path of a mount point, in bytes with the kernel's escapes: CRIU reads no
// longer one (parse_mountinfo_ent in its proc_parse.c).
const maxMountPath = 4094

func judgeMountPath(r *report, m procfs.MountPoint) {
	if len(procfs.EscapePath(m.Target)) > maxMountPath {
		r.add(MountUnsupported, "unmount it before the move, by a shorter name: `cd DIRECTORY && umount NAME` inside the job",
			"the job has a mount at a path of %d bytes, and CRIU reads up to %d: %.80s…", len(m.Target), maxMountPath, m.Target)
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
