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

// Node is what every part of an agent knows and uses of its node.
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
	Boot     string // of this boot of the node

	Usage       *output.Usage
	FreezeLocks FreezeLocks
	IDs         IDRanges
	Priority    *Priority

	Background sync.WaitGroup
	Life       context.Context // ends with the agent

	mu    sync.Mutex
	moves map[job.ID]*ActiveMove // what leaves; a job moves once at a time
}

// New is a node of which nothing was opened.
func New(cfg Config) *Node {
	return &Node{Config: cfg, Log: cfg.Log.With(logkey.Node, cfg.Node), moves: map[job.ID]*ActiveMove{}, Priority: NewPriority()}
}

// ShimOf is the shim of a job on this node, whether it lives or not.
func (a *Node) ShimOf(id job.ID) *shim.Client { return shim.Find(a.Paths.JobRun(id)) }

func (a *Node) IODir(id job.ID) string { return output.Dir(a.Jobs, id) }

func (a *Node) CRIUClient() *criu.Client { return criu.New(a.CRIUPath, a.Paths.Kdat(), a.Log) }
