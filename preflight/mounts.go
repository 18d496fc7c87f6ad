package preflight

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/procfs"
)

// mountView is what a job sees of the node: its mounts, and which of them are the node's files.
type mountView struct {
	mounts   []procfs.MountPoint
	declared map[string]string // target in the job → path on the node; what moves name by path
	nested   []nestedMounts    // mount namespaces that the job has made inside its own
}

// nestedMounts is one of them.
type nestedMounts struct {
	name   string // as in /proc/PID/ns
	root   int    // a process whose root is the one of all of it
	mounts []procfs.MountPoint
}

func newMountView(rec job.Record, mounts []procfs.MountPoint) mountView {
	v := mountView{mounts: mounts, declared: map[string]string{"/": orRoot(rec.Spec.Root)}}
	for _, list := range [][]job.Bind{rec.Mounts, rec.Spec.Binds} {
		for _, b := range list {
			v.declared[path.Clean(b.Target)] = path.Clean(b.Source)
		}
	}
	return v
}

func orRoot(dir string) string {
	if dir == "" {
		return "/"
	}
	return path.Clean(dir)
}

// nodePath translates a path of the job to the node's. It reports false for
// what lies on a mount of the job's own.
func (v mountView) nodePath(p string) (string, bool) {
	m, ok := v.mountOf(p)
	if !ok {
		return "", false
	}
	source, ok := v.declared[m.Target]
	if !ok {
		return "", false
	}
	rest, err := filepath.Rel(m.Target, p)
	if err != nil {
		return "", false
	}
	return path.Join(source, rest), true
}

// mountOf finds the mount that a path lies on: the innermost, and among those
// stacked at one place the topmost.
func (v mountView) mountOf(p string) (procfs.MountPoint, bool) {
	var found procfs.MountPoint
	ok := false
	for _, m := range v.mounts {
		if within(p, m.Target) && (!ok || len(m.Target) >= len(found.Target)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// byID finds a mount of the job by its number in mountinfo, in nested namespaces, too.
func (v mountView) byID(id uint64) (procfs.MountPoint, bool) {
	m, _, ok := v.find(id)
	return m, ok
}

// find also tells which nested namespace the mount is in, nil for the job's own.
func (v mountView) find(id uint64) (procfs.MountPoint, *nestedMounts, bool) {
	name := strconv.FormatUint(id, 10)
	is := func(m procfs.MountPoint) bool { return m.ID == name }
	if i := slices.IndexFunc(v.mounts, is); i >= 0 {
		return v.mounts[i], nil, true
	}
	for n := range v.nested {
		if i := slices.IndexFunc(v.nested[n].mounts, is); i >= 0 {
			return v.nested[n].mounts[i], &v.nested[n], true
		}
	}
	return procfs.MountPoint{}, nil, false
}

// filePath translates the name of an open file to the node's path.
func (v mountView) filePath(f file, name string) (string, bool) {
	m, nested, ok := v.find(f.Mount)
	if !ok || nested == nil {
		return v.nodePath(name)
	}
	source, ok := v.boundFrom(m)
	if !ok {
		return "", false
	}
	rest, err := filepath.Rel(m.Target, name)
	if err != nil || rest == ".." || strings.HasPrefix(rest, "../") {
		return "", false
	}
	return path.Join(source, rest), true
}

// boundFrom is where the node has what a mount shows. The mount is part of one that a move names by
// path, and is bound from that again.
func (v mountView) boundFrom(m procfs.MountPoint) (string, bool) {
	var best procfs.MountPoint
	for _, d := range v.mounts {
		if v.declared[d.Target] != "" && d.Device == m.Device && within(m.Root, d.Root) && len(d.Root) > len(best.Root) {
			best = d
		}
	}
	rest, err := filepath.Rel(best.Root, m.Root)
	if err != nil || best.Root == "" {
		return "", false
	}
	return path.Join(v.declared[best.Target], rest), true
}

// addNested reads the mount namespaces of the job's processes other than own, that of PID 1.
func (v *mountView) addNested(own string, pids []int) error {
	for _, pid := range pids {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if procfs.IsGone(err) || name == own {
			continue
		}
		if err != nil {
			return err
		}
		known := slices.IndexFunc(v.nested, func(n nestedMounts) bool { return n.name == name })
		root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid))
		if err != nil || known >= 0 && v.nested[known].root != 0 {
			continue
		}
		mounts, err := procfs.MountTable(pid)
		if procfs.IsGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		n := nestedMounts{name: name, mounts: mounts}
		if root == "/" { // a process with another root sees a part of them, by other names
			n.root = pid
		}
		if known < 0 {
			v.nested = append(v.nested, n)
		} else if n.root != 0 {
			v.nested[known] = n
		}
	}
	return nil
}

// byMove tells whether a move names the mount by its path.
func (v mountView) byMove(m procfs.MountPoint, userNS bool) bool {
	if _, ok := v.declared[m.Target]; ok || m.Target == namespaces.IOMount {
		return true
	}
	return userNS && slices.Contains(namespaces.Devices(), m.Target)
}

func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// network are the types of file systems that show several nodes the same files.
var sharedFS = map[string]bool{
	"nfs": true, "nfs4": true, "lustre": true, "gpfs": true, "beegfs": true, "beegfs_nodev": true, "ceph": true, "cifs": true,
	"smb3": true, "afs": true, "orangefs": true, "pvfs2": true, "panfs": true, "wekafs": true, "9p": true, "virtiofs": true,
	"glusterfs": true, "gfs2": true, "ocfs2": true, "dvs": true, "quobyte": true,
}

func isSharedFS(fsType string) bool {
	kind, sub, _ := strings.Cut(fsType, ".")
	return sharedFS[fsType] || kind == "fuse" && sub != "" && sub != "overlayfs" && sub != "fuse-overlayfs"
}

// sameFamily takes the versions of one kind of file system for the same.
func sameFamily(a, b string) bool {
	return a == b || strings.TrimRight(a, "0123456789") == strings.TrimRight(b, "0123456789")
}
