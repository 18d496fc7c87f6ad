package preflight

import (
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

// byID finds a mount by its number in mountinfo.
func (v mountView) byID(id uint64) (procfs.MountPoint, bool) {
	name := strconv.FormatUint(id, 10)
	i := slices.IndexFunc(v.mounts, func(m procfs.MountPoint) bool { return m.ID == name })
	if i < 0 {
		return procfs.MountPoint{}, false
	}
	return v.mounts[i], true
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
