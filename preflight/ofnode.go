package preflight

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/criu"
	"github.com/migrate-hpc/migrate/job"
)

// Node is what a target knows about itself.
type Node struct {
	CRIU      *criu.Client // nil = none was found
	Jobs      []job.Record // all that this node has on record
	MemoryDir string       // the tmpfs that will hold images and pages; exists
}

// OfNode says why a job cannot come to this node, which is the target. It
// touches nothing. An error means that the node could not be looked at.
func OfNode(ctx context.Context, n Needs, rec job.Record, node Node) ([]Finding, error) {
	fail := func(err error) ([]Finding, error) {
		return nil, fmt.Errorf("look at this node for job %s: %w", rec.ID, err)
	}
	if err := n.validate(); err != nil {
		return fail(err)
	}
	facts, err := readNode(n, node.MemoryDir)
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
	judgeJobs(&r, n, rec, node.Jobs)
	for _, m := range n.Mounts {
		judgeMount(&r, m, facts.mount(m.Path))
	}
	if err := judgeFiles(ctx, &r, n, func(f File, sure bool) seen { return seeFile(f, sure, facts.Mounts) }); err != nil {
		return fail(err)
	}
	return r.findings(), nil
}

// seeFile looks at a file of this node, following links as CRIU's open does. The
// path is the peer's word, so nothing but a regular file is opened.
func seeFile(f File, sure bool, mounts view) seen {
	flags := 0
	if f.Mode&unix.S_IFMT == unix.S_IFLNK {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	i, err := look(f.Path, flags)
	if err != nil {
		return seen{Err: err}
	}
	m, _ := mounts.mountOf(f.Path)
	if sure && i.kind() == unix.S_IFREG {
		if size, ok := freshSize(f.Path); ok {
			i.Size = size
		}
	}
	return seen{inode: i, Network: isNetwork(m.Type)}
}

// freshSize opens a file, which makes the client of a file server look again. That
// root is refused there is no news: its size is then as good as it gets.
func freshSize(path string) (size int64, ok bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	i, err := look(fmt.Sprintf("/proc/self/fd/%d", fd), 0)
	return i.Size, err == nil
}
