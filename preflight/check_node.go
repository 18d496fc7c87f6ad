package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/fileaccess"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/procfs"
)

// CheckNode says why a job cannot come to this node, which is the target. It touches nothing. An
// error means that the look at the node failed.
func CheckNode(ctx context.Context, n Needs, rec job.Record, node Node) ([]Finding, error) {
	fail := func(err error) ([]Finding, error) {
		return nil, fmt.Errorf("look at this node for job %s: %w", rec.ID, err)
	}
	if err := n.validate(); err != nil {
		return fail(err)
	}
	user := userOf(rec)
	facts, err := readNode(n, node.MemoryDir, user)
	if err != nil {
		return fail(err)
	}
	var r report
	version, err := probeCRIU(ctx, &r, node.CRIU, facts.Kernel)
	if err != nil {
		return fail(err)
	}
	judgeDirection(&r, n.CRIU, version)
	facts.judge(&r, n)
	judgeLimit(&r, n, rec.Spec.Limits.MemoryBytes)
	judgeJobs(&r, rec, node.Jobs)
	judgeClosedMounts(&r, ClosedMounts(rec))
	network, err := CheckNetwork(rec, node)
	if err != nil {
		return fail(err)
	}
	for _, m := range n.Mounts {
		if here := facts.mount(m.Path, namedBy(m.Path, rec, user)); !here.Hidden {
			judgeMount(&r, m, here)
		}
	}
	if err := facts.Mounts.judgeFiles(ctx, &r, n, user); err != nil {
		return fail(err)
	}
	return append(r.findings(), network...), nil
}

// CheckFiles is the part of CheckNode that is about files.
func CheckFiles(ctx context.Context, n Needs, rec job.Record) ([]Finding, error) {
	if err := n.validate(); err != nil {
		return nil, lookError(rec, err)
	}
	own, err := procfs.MountTable(unix.Getpid())
	if err != nil {
		return nil, lookError(rec, err)
	}
	var r report
	if err := (mountView{mounts: own}).judgeFiles(ctx, &r, n, userOf(rec)); err != nil {
		return nil, lookError(rec, err)
	}
	return r.findings(), nil
}

// judgeFiles looks for the job's files on this node, which has these mounts.
func (v mountView) judgeFiles(ctx context.Context, r *report, n Needs, user osthread.User) error {
	refused, err := accessOf(ctx, n.Files, user)
	if err != nil {
		return err
	}
	see := func(f File, sure bool) targetFile {
		if err := refused[f.Path]; errors.Is(err, fs.ErrPermission) {
			return targetFile{DeniedUID: user.UID}
		} else if err != nil {
			return targetFile{Err: err}
		}
		return seeFile(f, sure, v)
	}
	return judgeFiles(ctx, r, n, see)
}

// CheckRestore says why this node, where the job runs, could not take it back from a checkpoint made now.
// What the job itself takes here does not count, nor what this node alone does not give its user: another
// node may.
func CheckRestore(ctx context.Context, n Needs, rec job.Record, node Node) ([]Finding, error) {
	node.Jobs = slices.DeleteFunc(slices.Clone(node.Jobs), func(other job.Record) bool { return other.ID == rec.ID })
	findings, err := CheckNode(ctx, n, rec, node)
	return slices.DeleteFunc(findings, func(f Finding) bool {
		return f.Code == MemoryShort || f.Code == NetworkDenied || f.Code == QuotaReached
	}), err
}

// namedBy is the job's user for what he had bound, and root for the node's mounts.
func namedBy(source string, rec job.Record, user osthread.User) osthread.User {
	for _, b := range rec.Spec.Binds {
		if path.Clean(b.Source) == source {
			return user
		}
	}
	return osthread.User{}
}

// accessOf says why the job's user cannot open files as the job has them. The user must not learn
// more than the user's rights allow.
func accessOf(ctx context.Context, files []File, user osthread.User) (map[string]error, error) {
	wishes := make([]fileaccess.Wish, len(files))
	for i, f := range files {
		wishes[i] = fileaccess.Wish{Path: f.Path, Mode: f.Mode, Access: f.Access}
	}
	refused := map[string]error{}
	err := fileaccess.Ask(ctx, user, wishes, func(i int, err error) { refused[files[i].Path] = err })
	return refused, err
}

// seeFile looks at a file of this node, following links as CRIU's open does. The
// path is the peer's word, so nothing but a regular file is opened.
func seeFile(f File, sure bool, mounts mountView) targetFile {
	flags := 0
	if f.Mode&unix.S_IFMT == unix.S_IFLNK {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	i, err := statx(f.Path, flags)
	if err != nil {
		return targetFile{Err: err}
	}
	m, _ := mounts.mountOf(f.Path)
	if sure && isSharedFS(m.Type) && i.kind() == unix.S_IFREG { // elsewhere there is no news, and to open it breaks a lease
		if size, ok := freshSize(f.Path); ok {
			i.Size = size
		}
	}
	return targetFile{inode: i, Network: isSharedFS(m.Type)}
}

// freshSize opens a file, which makes the client of a file server look again. That
// root is refused there is no news: its size is then as good as it gets.
func freshSize(path string) (size int64, ok bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	i, err := statx(fmt.Sprintf("/proc/self/fd/%d", fd), 0)
	return i.Size, err == nil
}
