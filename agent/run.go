package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

func (a *Agent) handleRun(w http.ResponseWriter, r *http.Request, c caller) error {
	var req api.RunRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if c.peer != "" {
		return &api.Error{Code: api.CodeForbidden, Message: "a job is started on its own node"}
	}
	if err := mayAsk(req.Spec); err != nil {
		return err
	}
	req.Spec.UID, req.Spec.GID, req.Spec.Groups = c.uid, c.gid, c.groups
	if err := req.Spec.Validate(); err != nil {
		return &api.Error{Code: api.CodeUsage, Message: err.Error(), Hint: "see `migrate run --help`"}
	}
	if err := reachable(c, req.Spec); err != nil {
		return &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	if err := workDirExists(req.Spec); err != nil {
		return err
	}
	if err := bindTargetsExist(c, req.Spec); err != nil {
		return err
	}
	err := inherit(&req.Spec, c)
	if err == nil {
		err = c.alive()
	}
	if err != nil {
		e := asError(err)
		e.Where = orElse(e.Where, notStarted)
		return e
	}
	done, err := a.admit(req.Spec.UID)
	if err != nil {
		return err
	}
	defer done()
	rec := job.Record{ID: job.NewID(), Spec: req.Spec, Created: time.Now(), Foreground: req.Foreground}
	defer a.ids.letGo(string(rec.ID))
	if err := a.settle(&rec); err != nil {
		e := asError(err)
		e.Where = orElse(e.Where, notStarted)
		return e
	}
	err = a.launchWithRoom(r.Context(), rec, c)
	if refusal := (*api.Error)(nil); errors.As(err, &refusal) {
		refusal.Where = notStarted
		return refusal
	}
	if err != nil {
		return &api.Error{Code: api.CodeFailed, Message: err.Error(), Where: notStarted, Hint: "put right what the message names, and the same command again"}
	}
	return a.replyJob(r.Context(), w, rec.ID)
}

// notStarted is where a job is that could not be launched.
const notStarted = "nothing was started"

// workDirExists catches what happens to everybody once: the job's /tmp is its own
// and empty, so a directory in the node's is not there.
func workDirExists(s job.Spec) error {
	if !strings.HasPrefix(s.WorkDir, "/tmp/") {
		return nil
	}
	for _, b := range s.Binds {
		if s.WorkDir == b.Target || strings.HasPrefix(s.WorkDir, b.Target+"/") {
			return nil
		}
	}
	return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("the work directory %s does not exist in the job, whose /tmp is its own and empty", s.WorkDir),
		Hint: fmt.Sprintf("name another directory with `migrate run -w DIR`, or let the job see this one: `migrate run --bind %s`", s.WorkDir)}
}

// bindTargetsExist checks that there is something to bind over, for all that the caller
// can see. In /tmp, which is the job's own, the mount points are made; in the node's tree
// nothing is.
func bindTargetsExist(c caller, s job.Spec) error {
	for _, b := range s.Binds {
		if strings.HasPrefix(b.Target, "/tmp/") {
			continue
		}
		if err := asCaller(c, func() error { return namespaces.RootHas(s.Root, b.Target) }); err != nil {
			return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("%s cannot be shown at %s: there is nothing of that name in the job's root", b.Source, b.Target),
				Hint: fmt.Sprintf("make it with `mkdir` or `touch`, or bind it somewhere in /tmp: `migrate run --bind %s:/tmp/%s`", b.Source, filepath.Base(b.Target))}
		}
	}
	return nil
}

// launch starts a job that nobody knows yet. When it fails nothing is left.
func (a *Agent) launch(ctx context.Context, rec job.Record, c caller) (err error) {
	rec.Placements = []job.Placement{{Node: a.cfg.Node, From: rec.Created}}
	if err := a.assign(rec, func() error { return a.jobs.Create(rec) }); err != nil {
		return err
	}
	free := a.askNetwork(ctx, rec.Spec)
	defer free() // what it says is asked below
	defer func() {
		if err != nil {
			err = errors.Join(err, a.jobs.Remove(rec.ID))
		}
	}()
	if err := makeIODir(a.ioDir(rec.ID), rec.Spec); err != nil {
		return err
	}
	cfg := a.shimConfig(rec, a.ioDir(rec.ID))
	ns, err := namespaceConfig(rec, cfg.RootDir(), a.ioDir(rec.ID))
	if err != nil {
		return err
	}
	cfg.Launch = &shim.Launch{Namespaces: ns, Interface: jobInterface(rec), Within: startTime}
	if err := free(); err != nil {
		return err
	}
	if rec.Foreground {
		if cfg.Join, err = joined(c); err != nil {
			return err
		}
	}
	return a.startShim(rec, cfg)
}

// joined are the caller's cgroups, as their scheduler has made them; none where the caller has a hand
// in them, so that nobody but root can take the job out of the freezer.
func joined(c caller) (map[string]string, error) {
	dirs, err := namespaces.CgroupsOf(c.pid)
	if err != nil {
		return nil, err
	}
	if err := c.alive(); err != nil {
		return nil, err
	}
	if alone, err := namespaces.OnlyRootWrites(dirs); err != nil || !alone {
		return nil, err
	}
	return dirs, nil
}

// shimConfig is for a job whose output is in ioDir when the shim starts.
func (a *Agent) shimConfig(rec job.Record, ioDir string) shim.Config {
	return shim.Config{
		Job: rec.ID, Records: a.paths.jobs(), RunDir: a.paths.jobRun(rec.ID),
		Output: &shim.Output{Dir: ioDir, Limit: rec.Spec.OutputLimit, UID: rec.Spec.UID},
		CRIU:   a.criuPath, KdatDir: a.paths.kdat(), LinkName: linkName(rec),
	}
}

// cgroupName has the node's name in it for the sake of nodes that share a machine.
func (a *Agent) cgroupName(id job.ID) string { return "migrate-" + a.cfg.Node + "-" + string(id) }

// makeCgroup makes a job's own cgroup, with its limits, beneath parents, or our own.
func (a *Agent) makeCgroup(rec job.Record, parents map[string]string) (cg *namespaces.Cgroup, err error) {
	if parents == nil {
		if parents, err = namespaces.CgroupsOf(os.Getpid()); err != nil {
			return nil, err
		}
	}
	cg, err = namespaces.NewCgroupIn(parents, a.cgroupName(rec.ID))
	if err != nil {
		return nil, err
	}
	l := rec.Spec.Limits
	if err := cg.Limit(namespaces.Limits{MemoryBytes: l.MemoryBytes, CPUMilli: l.CPUMilli, Pids: l.Pids}); err != nil {
		return nil, errors.Join(err, cg.Remove())
	}
	return cg, nil
}

func (a *Agent) replyJob(ctx context.Context, w http.ResponseWriter, id job.ID) error {
	rec, err := a.jobs.Get(id)
	if err != nil {
		return err
	}
	return reply(w, a.view(ctx, rec))
}

func (a *Agent) handleNode(w http.ResponseWriter, r *http.Request, _ caller) error {
	n := api.Node{Node: a.cfg.Node, Version: a.cfg.Version, CRIU: a.criuPath, Listen: a.cfg.Listen}
	var err error
	if n.Kernel, err = kernelRelease(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	return reply(w, n)
}
