package transfer

import (
	"sync"

	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/store/directory"
)

// Transfers moves, saves and restores jobs, and has the parts that this takes.
type Transfers struct {
	*node.Node
	Store    store.Store // where checkpoints live
	Peers    *peer.Peers
	Launcher *launch.Launcher
	Sources  *source.Sources
	Targets  *target.Targets
	Copies   *copies.Copies

	Arrivals *Arrivals
	Recovery *Recovery
	Resolver *Resolver
	History  *History

	queue MoveQueue
}

// New joins the parts of a node.
func New(n *node.Node) *Transfers {
	a := &Transfers{Node: n, Store: directory.Store{}, Peers: &peer.Peers{Node: n}, Launcher: &launch.Launcher{Node: n}, Sources: &source.Sources{Node: n}, queue: MoveQueue{Most: MaxMoves}}
	a.Targets = target.New(n, a.Launcher, a.Sources.EndCopy)
	a.Copies = &copies.Copies{Node: n, Peers: a.Peers, Sources: a.Sources}
	a.History = &History{Node: n, Peers: a.Peers, Copies: a.Copies}
	a.Arrivals = &Arrivals{Node: n, Peers: a.Peers, Launcher: a.Launcher, Targets: a.Targets, Copies: a.Copies, underWay: map[handoff.MoveID]*Arrival{}}
	a.Recovery = &Recovery{Node: n, Transfers: a, Sources: a.Sources, Targets: a.Targets, Arrivals: a.Arrivals}
	a.Resolver = &Resolver{Node: n, History: a.History, Arrivals: a.Arrivals, Recovery: a.Recovery}
	a.Arrivals.Recovery, a.Arrivals.Resolver = a.Recovery, a.Resolver
	return a
}

// Arrivals are the moves whose target is this node.
type Arrivals struct {
	*node.Node
	Peers    *peer.Peers
	Launcher *launch.Launcher
	Targets  *target.Targets
	Copies   *copies.Copies
	Recovery *Recovery
	Resolver *Resolver

	mu       sync.Mutex
	underWay map[handoff.MoveID]*Arrival
}

// Recovery goes on with moves that an earlier agent, or an error, has left.
type Recovery struct {
	*node.Node
	Transfers *Transfers
	Sources   *source.Sources
	Targets   *target.Targets
	Arrivals  *Arrivals
}

// Resolver carries out what operators decide about moves.
type Resolver struct {
	*node.Node
	History  *History
	Arrivals *Arrivals
	Recovery *Recovery
}

// History tells how moves went.
type History struct {
	*node.Node
	Peers  *peer.Peers
	Copies *copies.Copies
}

// Arrival is a move whose target is this node.
type Arrival struct {
	half    *handoff.TargetHalf
	landing *target.Job
	source  handoff.Asker
}
