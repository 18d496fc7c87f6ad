package preflight

import (
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/procfs"
)

func (j *jobFacts) needs(rec job.Record) (Needs, error) {
	n := Needs{
		Arch: runtime.GOARCH, Root: rec.Spec.Root, Files: j.files(),
		UserNS: rec.Spec.UserNS, UIDBase: rec.Spec.UIDBase, Nested: j.nests(),
	}
	n.Segments, n.InTmpfs, n.CopyOnWrite = j.segments(), j.Carried, j.CopyOnWrite
	private, locked := j.private()
	n.Memory, n.Locked = private+n.Segments+j.TmpfsUsed, locked
	if rec.Spec.Network.Bridged() {
		n.Bridge = rec.Spec.Network.Mode
	}
	if dir, ok := j.view.nodePath(path.Join("/", rec.Spec.WorkDir)); ok {
		n.WorkDir = dir
	}
	var err error
	if n.CPU, err = cpuFlags(); err != nil {
		return n, err
	}
	own, err := procfs.MountTable(unix.Getpid())
	if err != nil {
		return n, err
	}
	n.Mounts = boundHere(rec, mountView{mounts: own})
	return n, nil
}

// boundHere describes what is bound into the job from this node.
func boundHere(rec job.Record, node mountView) []Mount {
	var mounts []Mount
	seen := map[string]bool{}
	for _, list := range [][]job.Bind{rec.Mounts, rec.Spec.Binds} {
		for _, b := range list {
			p := path.Clean(b.Source)
			if seen[p] {
				continue
			}
			seen[p] = true
			m, _ := node.mountOf(p)
			i, err := statx(p, unix.AT_STATX_DONT_SYNC)
			mounts = append(mounts, Mount{Path: p, Type: m.Type, Dir: err != nil || i.kind() == unix.S_IFDIR})
		}
	}
	return mounts
}

// private adds up the private memory of all tasks, as a restore by page faults needs it. Pages
// that copy-on-write shares count for each task.
func (j *jobFacts) private() (total, locked int64) {
	for _, t := range j.Tasks {
		total += t.Private
		locked += t.Locked
	}
	return total, locked
}

// segments adds up shared memory without a path. Files of the node are not in it: they
// come from the node's page cache there as here.
func (j *jobFacts) segments() int64 {
	total := int64(0)
	seen := map[[3]uint64]bool{}
	shared := func(f file) {
		if internal(f) && !seen[f.key()] {
			seen[f.key()] = true
			total += f.Allocated
		}
	}
	for _, t := range j.Tasks {
		for _, d := range t.Opened {
			shared(d.file)
		}
		for _, m := range t.Mapped {
			shared(m.file)
		}
	}
	return total
}

// files lists the node's files that the job holds, each once.
func (j *jobFacts) files() []File {
	found := map[string]File{}
	for _, t := range j.Tasks {
		var program [3]uint64
		for _, d := range t.Opened {
			if d.isProgram() {
				program = d.key()
			}
			access := d.Flags & unix.O_ACCMODE
			// CRIU leaves the size of a log alone, see should_check_size in criu/files-reg.c.
			log := access == unix.O_WRONLY && d.Flags&unix.O_APPEND != 0
			j.addFile(found, d.file, d.access(), access != unix.O_RDONLY && d.Number >= 0, !log)
			if p, ok := j.onNode(d.file); ok && d.Locked {
				f := found[p]
				f.Locked = true
				found[p] = f
			}
		}
		for _, m := range t.Mapped {
			j.addFile(found, m.file, m.access(program), m.Shared && m.Writable, true)
		}
	}
	list := make([]File, 0, len(found))
	for _, f := range found {
		list = append(list, f)
	}
	return list
}

func (j *jobFacts) addFile(found map[string]File, f file, access uint32, written, sized bool) {
	switch f.kind() {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFIFO, unix.S_IFLNK:
	default:
		return
	}
	p, ok := j.onNode(f)
	if !ok {
		return
	}
	size := int64(-1)
	if sized && f.kind() == unix.S_IFREG {
		size = f.Size
	}
	old := found[p]
	if old.Path != "" {
		size, written = max(size, old.Size), written || old.Written
	}
	found[p] = File{Path: p, Size: size, Mode: f.Mode, Inode: f.Ino, Written: written, Locked: old.Locked, Access: old.Access | access}
}

// onNode is the path on the node of a file that the target must have under it.
func (j *jobFacts) onNode(f file) (string, bool) {
	if f.Links == 0 || f.Name != nameHolds || !strings.HasPrefix(f.Link, "/") {
		return "", false // carried in the images, or refused
	}
	if strings.HasPrefix(path.Base(f.Link), ".nfs") {
		return "", false // an NFS client keeps it for us until we close it
	}
	if _, ok := j.view.byID(f.Mount); !ok && f.MountIsKnown {
		return "", false
	}
	return j.view.filePath(f, f.Link)
}
