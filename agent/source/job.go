package source

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

// Job is the job on the node that it leaves: handoff.Source. It can be
// made anew from the job's record at any time, which is what recovery does.
type Job struct {
	sources  *Sources
	Rec      job.Record
	Src      *checkpoint.Source
	dir      string       // on the tmpfs
	Kind     handoff.Kind // of the move; none when what is here only ends
	To       *job.Moved   // where a move takes it
	Saved    string       // the directory that a checkpoint leaves it in
	Out      []io.Writer  // lanes; nil in recovery
	progress *progress.Progress
	// hangUp closes the lanes, why asks the target what was wrong.
	HangUp func()
	AskWhy func(context.Context) error

	unthrottledCPU int64    // thousandths of a core that the job uses unthrottled; 0: never throttled
	Sending        *sending // what Transfer has begun
	PostCopy       bool     // memory that the target lacks at the freeze is pulled
	pull           *pull    // nil: nobody has asked for that yet
	SkipPull       bool     // an operator has decided: the target is not asked what it lacks
	Bandwidth      int64    // of the pull, bytes per second; 0 is no limit

	Total  int64 // of memory, bytes, as far as known
	Read   atomic.Int64
	Pulled atomic.Int64 // of memory, bytes: what the target has asked for
	// pullSent is what that took on the wire.
	PullSent atomic.Int64
	Frozen   time.Time
	Thawed   time.Time
}

// JobOf finds the job behind a record. One whose shim is gone can still be
// released.
func (s *Sources) JobOf(ctx context.Context, rec job.Record, move string, tell *progress.Progress) (*Job, error) {
	st, err := s.awaitStatus(ctx, rec)
	if err != nil && !errors.Is(err, shim.ErrGone) {
		return nil, err
	}
	d := &Job{sources: s, Rec: rec, dir: s.Paths.Move(move), progress: tell,
		HangUp: func() {}, AskWhy: func(context.Context) error { return nil }}
	cg := &cgroup.Cgroup{Dirs: rec.Cgroup}
	d.Total = node.ResidentMemory(cg)
	d.Src = &checkpoint.Source{
		Init: st.Init, Cgroup: cg, CRIU: s.CRIUClient(),
		External: externalKeys(rec), Dir: d.dir, IODir: s.IODir(rec.ID), Interface: launch.JobInterface(rec), UserNS: rec.Spec.UserNS, TCP: true, Log: s.Log,
		Count: func(n int64) { d.Read.Add(n) },
	}
	return d, nil
}

// awaitStatus waits for the word of a shim that is busy, but not of one that was
// suspended together with its job.
func (s *Sources) awaitStatus(ctx context.Context, rec job.Record) (shim.Status, error) {
	st, err := s.Status(ctx, rec.ID)
	if err == nil || errors.Is(err, shim.ErrGone) || ctx.Err() != nil {
		return st, err
	}
	if err := s.CheckNotSuspended(rec); err != nil {
		return st, err
	}
	return s.ShimOf(rec.ID).Status(ctx)
}

// CheckNotSuspended fails for a job that somebody has suspended in a cgroup that may hold its shim, too.
func (s *Sources) CheckNotSuspended(rec job.Record) error {
	dir, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).SuspendedAbove()
	if err != nil || dir == "" {
		return err
	}
	return node.Suspended(rec.ID, s.Config.Node, &checkpoint.Suspended{Cgroup: dir})
}

// externalKeys are the external mounts as a dump wants them: path in the job →
// key. The key is the path.
func externalKeys(rec job.Record) map[string]string {
	keys := map[string]string{}
	for path := range launch.ExternalMounts(rec, "", "", nil) {
		keys[path] = path
	}
	return keys
}

// PrepareDump does what need not wait until the job stands still. What fails here is
// tried again then.
func (j *Job) PrepareDump(ctx context.Context) {
	if err := j.Src.Prestart(ctx); err != nil {
		j.sources.Log.Warn("prepare the dump", logkey.Job, j.Rec.ID, logkey.Err, err)
	}
}

// RecordAtFreeze is the record that goes with the frozen job: what it has used here
// has become a part of its past.
func (j *Job) RecordAtFreeze() job.Record {
	rec := j.Rec
	if used, err := j.Src.Cgroup.CPUTime(); err == nil {
		rec.CPUBefore += time.Duration(used)
	}
	now := time.Now()
	if n := len(rec.Placements); n > 0 && rec.Placements[n-1].To.IsZero() {
		stays := append([]job.Placement(nil), rec.Placements...)
		stays[n-1].To = now
		rec.Placements = stays
	}
	return rec
}

// Downtime is how long the job has been frozen by now.
func (j *Job) Downtime() time.Duration {
	if j.Frozen.IsZero() {
		return 0
	}
	if !j.Thawed.IsZero() {
		return j.Thawed.Sub(j.Frozen)
	}
	return time.Since(j.Frozen)
}
