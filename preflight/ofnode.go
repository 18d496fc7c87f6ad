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
	if len(n.Files) > MaxFiles {
		return fail(fmt.Errorf("the source names %d files, above %d", len(n.Files), MaxFiles))
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
	judgeJobs(&r, n, rec, node.Jobs)
	for _, m := range n.Mounts {
		judgeMount(&r, m, facts.mount(m.Path))
	}
	if err := judgeFiles(ctx, &r, n, func(path string) seen { return seeFile(path, facts.Mounts) }); err != nil {
		return fail(err)
	}
	return r.findings(), nil
}

// seeFile looks at a file of this node, following links as CRIU's open does.
func seeFile(path string, mounts view) seen {
	i, err := look(path, 0)
	if err != nil {
		return seen{Err: err}
	}
	m, _ := mounts.mountOf(path)
	return seen{inode: i, Network: isNetwork(m.Type)}
}

// refresh asks a file server anew how large a file is: an open makes clients
// look again.
func refresh(path string) (size int64, ok bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	for {
		err := unix.Fstat(fd, &st)
		if err == nil {
			return st.Size, true
		}
		if err != unix.EINTR {
			return 0, false
		}
	}
}
