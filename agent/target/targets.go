package target

import (
	"context"
	"sync"

	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

// Targets are the jobs that come to a node.
type Targets struct {
	*node.Node
	Launcher *launch.Launcher
	// EndRunning ends a copy that runs, as one that leaves.
	EndRunning func(ctx context.Context, rec job.Record, move string, from node.Origin) error

	mu    sync.Mutex
	pulls map[handoff.MoveID]*transport.Session // by which memory comes that was not sent
}

// New returns those of a node.
func New(n *node.Node, l *launch.Launcher, end func(ctx context.Context, rec job.Record, move string, from node.Origin) error) *Targets {
	return &Targets{Node: n, Launcher: l, EndRunning: end, pulls: map[handoff.MoveID]*transport.Session{}}
}
