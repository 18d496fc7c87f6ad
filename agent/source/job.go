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
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/shim"
)

// Job is the job on the node that it leaves: handoff.Source. Recovery makes it anew from the job's
// record.
type Job struct {
	sources  *Sources
	Rec      job.Record
	Src      *checkpoint.Source
	dir      string       // on the tmpfs
	Kind     handoff.Kind // of the move; "" when the copy here only ends
	To       *job.Moved   // the target of a move
	Saved    string       // the directory of a checkpoint
	Out      []io.Writer  // lanes; nil in recovery
	progress *progress.Progress
	// HangUp closes the lanes, AskWhy asks the target for the reason that it closed them.
	HangUp func()
	AskWhy func(context.Context) error

	// AskFiles has the target say whether it has files, too. nil: it does not know the question.
	AskFiles func(context.Context, []preflight.File) error
	seen     *preflight.Look  // the last look at the running job
	news     []preflight.File // opened or locked since, and before the freeze

	unthrottledCPU int64    // in thousandths of a core; 0: the job was never throttled
	Sending        *sending // begun by Transfer; nil before
	PostCopy       bool     // the target pulls memory that it lacks at the freeze
	pull           *pull    // nil until it begins
	SkipPull       bool     // an operator has decided: the target needs no more pages
	Bandwidth      int64    // of the pull, bytes per second; 0 is no limit

	Forecast time.Duration // of the downtime, by the last round; 0: none

	Total  int64 // of memory, bytes, as far as known
	Read   atomic.Int64
	Pulled atomic.Int64 // of memory, bytes: what the target has pulled
	// PullSent is that on the wire, in bytes.
	PullSent atomic.Int64
	Frozen   time.Time
	Thawed   time.Time
}

// JobOf opens the job of a record for a move. A job whose shim has ended can still be released.
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
		Processes: checkpoint.Processes{Init: st.Init, Cgroup: cg}, CRIU: s.CRIUClient(),
		External: externalKeys(rec), Dir: d.dir, IODir: s.IODir(rec.ID), Interface: launch.JobInterface(rec), UserNS: rec.Spec.UserNS, TCP: true, Log: s.Log,
		Count: func(n int64) { d.Read.Add(n) },
	}
	return d, nil
}

// awaitStatus waits for a busy shim to answer, but not for one that is suspended together with its
// job.
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

// CheckNotSuspended fails with api.CodeSuspended for a job that is suspended in a cgroup that may hold
// its shim, too.
func (s *Sources) CheckNotSuspended(rec job.Record) error {
	dir, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).SuspendedAbove()
	if err != nil || dir == "" {
		return err
	}
	return node.Suspended(rec.ID, s.Config.Node, &checkpoint.Suspended{Cgroup: dir})
}

// externalKeys are the external mounts for a dump: path in the job → key, which is the path.
func externalKeys(rec job.Record) map[string]string {
	keys := map[string]string{}
	for path := range launch.ExternalMounts(rec, "", nil) {
		keys[path] = path
	}
	return keys
}

// PrepareDump does, before the freeze, what a dump needs. What fails here is tried again in the
// downtime.
func (j *Job) PrepareDump(ctx context.Context) {
	if err := j.Src.Prestart(ctx); err != nil {
		j.sources.Log.Warn("prepare the dump", logkey.Job, j.Rec.ID, logkey.Err, err)
	}
}

// RecordAtFreeze is the record that goes with the frozen job. CPUBefore includes the processor time
// used here, and the placement here has its end.
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
