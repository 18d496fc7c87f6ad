package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/output"
	"github.com/migrate-hpc/migrate/safepath"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// OpenFence opens the fence. With a damaged one the agent starts, and admits no job. If the file is
// missing although the node has jobs, an operator removed it, as [handoff.ErrFenceDamaged] says:
// its grants are lost, and the fence notes that.
func (n *Node) OpenFence() (err error) {
	_, missing := os.Lstat(n.Paths.Fence())
	if n.Fence, err = handoff.OpenFence(n.Paths.Fence()); err != nil {
		n.Log.Error("no job can come to this node", logkey.Err, err)
		return nil
	}
	ids, err := n.Jobs.IDs()
	if err == nil && errors.Is(missing, fs.ErrNotExist) && len(ids) > 0 {
		err = n.Fence.MarkLost("")
	}
	return errors.Join(err, n.Fence.Booted(n.Boot, slices.Collect(maps.Keys(n.Config.Peers))))
}

// moveRetention is how long finished moves stay in the journal: longer than a peer may
// be away and then ask how one ended.
const moveRetention = 60 * 24 * time.Hour

// Open makes the directories of a node and opens its certificate, journal, fence and records. It
// needs root. A journal that cannot be read guards the jobs that it may be about.
func Open(cfg Config) (*Node, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("an agent must run as root: it makes namespaces and cgroups for everybody's jobs")
	}
	if err := safepath.Check(cfg.PKIDir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, OnlyRootHint(err, "--pki") // with a CA of its own a user would pass for any node
	}
	id, err := pki.Load(cfg.PKIDir)
	if err != nil {
		return nil, err
	}
	if cfg.Node == "" {
		cfg.Node = id.Node
	}
	if cfg.Node != id.Node {
		return nil, fmt.Errorf("the certificate in %s is for node %s, not %s: issue one with `migrate pki issue`", cfg.PKIDir, id.Node, cfg.Node)
	}
	if cfg.Socket == "" {
		cfg.Socket = filepath.Join(cfg.RunDir, "agent.sock")
	}
	a := New(cfg)
	a.Identity = id
	if err := a.UsableCRIU(cfg.CRIU); err != nil {
		a.Log.Warn("jobs can run here, but neither leave nor arrive", logkey.Err, err)
	}
	if a.Paths, err = MakePaths(cfg); err != nil {
		return nil, err
	}
	if err := cgroup.DelegateControllers(); err != nil {
		a.Log.Warn("jobs with limits cannot be started here", logkey.Err, err)
	}
	if a.Boot, err = handoff.BootID(); err != nil {
		return nil, err
	}
	if err := a.OpenRecords(); err != nil {
		return nil, err
	}
	if err := a.Journal.Prune(time.Now().Add(-moveRetention)); err != nil {
		a.Log.Warn("some old moves stay in the journal", logkey.Err, err)
	}
	for _, d := range a.Journal.Damaged() {
		a.Log.Error("a journal cannot be read, and guards the jobs that it may be about", logkey.Move, d.Name, logkey.Job, d.Job, logkey.Err, d.Err, logkey.Try, "migrate resolve "+d.Name+" --forget")
	}
	return a, nil
}

// OpenRecords opens the records of jobs and moves, the fence and the journal.
func (n *Node) OpenRecords() (err error) {
	if n.Jobs, err = job.OpenStore(n.Paths.Jobs()); err != nil {
		return err
	}
	n.Usage = &output.Usage{Store: n.Jobs, Alive: n.HasRunDir}
	if err = n.OpenFence(); err != nil {
		return err
	}
	n.Records = &progress.Records{Dir: n.Paths.Records(), Log: n.Log}
	n.Journal, err = handoff.OpenJournal(n.Paths.Moves())
	return err
}

// UsableCRIU finds a CRIU, explicit or in the usual places. Preflight checks whether it suits the
// kernel.
func (n *Node) UsableCRIU(explicit string) error {
	path, err := criu.Find(explicit)
	if err != nil {
		return err
	}
	n.CRIUPath = path
	return nil
}
