package preflight

import (
	"context"

	"github.com/migrate-hpc/migrate/checkpoint/criu"
	"github.com/migrate-hpc/migrate/job"
)

// Node is what a target knows about itself.
type Node struct {
	CRIU      *criu.Client
	Jobs      []job.Record // all that this node has on record
	MemoryDir string       // the tmpfs that will hold images and pages
}

// OfNode says why a job cannot come to this node, which is the target. It
// touches nothing. An error means that the node could not be looked at.
func OfNode(ctx context.Context, n Needs, rec job.Record, node Node) ([]Finding, error) {
	return nil, nil
}
