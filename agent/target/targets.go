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

// Targets opens jobs that come to their node.
type Targets struct {
	*node.Node
	Launcher *launch.Launcher
	// EndRunning ends a copy that runs, as the source of a move does.
	EndRunning func(ctx context.Context, rec job.Record, move string, from node.Origin) error

	mu    sync.Mutex
	pulls map[handoff.MoveID]*transport.Session // sessions that pull memory
}

// New returns the targets of a node; end is EndRunning.
func New(n *node.Node, l *launch.Launcher, end func(ctx context.Context, rec job.Record, move string, from node.Origin) error) *Targets {
	return &Targets{Node: n, Launcher: l, EndRunning: end, pulls: map[handoff.MoveID]*transport.Session{}}
}
