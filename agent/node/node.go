package node

import (
	"context"
	"log/slog"
	"sync"

	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/output"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// Node is what every part of an agent uses of its node.
type Node struct {
	Config   Config
	Paths    Paths
	Log      *slog.Logger
	Identity *pki.Identity
	Jobs     *job.Store
	Journal  *handoff.Journal
	Fence    *handoff.Fence
	Records  *progress.Records
	CRIUPath string
	Boot     string // id of the running boot, random(4)

	Usage       *output.Usage
	FreezeLocks FreezeLocks
	IDs         IDRanges
	Priority    *Priority

	Background sync.WaitGroup
	Life       context.Context // ends with the agent
	Leaving    *Leaving
}

// New is a node whose directories, journal and records are not open yet; see Open.
func New(cfg Config) *Node {
	return &Node{Config: cfg, Log: cfg.Log.With(logkey.Node, cfg.Node), Leaving: &Leaving{node: cfg.Node, moves: map[job.ID]handoff.MoveID{}}, Priority: NewPriority()}
}

// ShimOf is a client of the shim of a job on this node, whether that runs or not.
func (n *Node) ShimOf(id job.ID) *shim.Client { return shim.Find(n.Paths.JobRun(id)) }

// IODir is the directory of a job's own output files.
func (n *Node) IODir(id job.ID) string { return output.Dir(n.Jobs, id) }

// CRIUClient runs this node's CRIU.
func (n *Node) CRIUClient() *criu.Client { return criu.New(n.CRIUPath, n.Paths.Kdat(), n.Log) }
