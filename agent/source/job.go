package source

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

// Job is the job on the node that it leaves: handoff.Source. It can be
// made anew from the job's record at any time, which is what recovery does.
type Job struct {
	A     *Sources
	Rec   job.Record
	Src   *checkpoint.Source
	dir   string       // on the tmpfs
	Kind  handoff.Kind // of the move; none when what is here only ends
	To    *job.Moved   // where a move takes it
	Saved string       // the directory that a checkpoint leaves it in
	Out   []io.Writer  // lanes; nil in recovery
	tell  *progress.Progress
	// hangUp closes the lanes, why asks the target what was wrong.
	HangUp func()
	Why    func(context.Context) error

	fullSpeed int64    // thousandths of a core that the job uses unthrottled; 0: never throttled
	Sending   *sending // what Transfer has begun
	PostCopy  bool     // memory that the target lacks at the freeze is pulled
	pull      *pull    // nil: nobody has asked for that yet
	Vouched   bool     // an operator has decided: the target is not asked what it lacks
	Bandwidth int64    // of the pull, bytes per second; 0 is no limit

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
func (a *Sources) JobOf(ctx context.Context, rec job.Record, move string, tell *progress.Progress) (*Job, error) {
	st, err := a.patientStatus(ctx, rec)
	if err != nil && !errors.Is(err, shim.ErrGone) {
		return nil, err
	}
	d := &Job{A: a, Rec: rec, dir: a.Paths.Move(move), tell: tell,
		HangUp: func() {}, Why: func(context.Context) error { return nil }}
	cg := &cgroup.Cgroup{Dirs: rec.Cgroup}
	d.Total = node.ResidentMemory(cg)
	d.Src = &checkpoint.Source{
		Init: st.Init, Cgroup: cg, CRIU: a.CRIUClient(),
		External: externalKeys(rec), Dir: d.dir, IODir: a.IODir(rec.ID), Interface: launch.JobInterface(rec), UserNS: rec.Spec.UserNS, TCP: true, Log: a.Log,
		Count: func(n int64) { d.Read.Add(n) },
	}
	return d, nil
}

// patientStatus waits for the word of a shim that is busy, but not of one that was
// suspended together with its job.
func (a *Sources) patientStatus(ctx context.Context, rec job.Record) (shim.Status, error) {
	st, err := a.Status(ctx, rec.ID)
	if err == nil || errors.Is(err, shim.ErrGone) || ctx.Err() != nil {
		return st, err
	}
	if err := a.Awake(rec); err != nil {
		return st, err
	}
	return a.ShimOf(rec.ID).Status(ctx)
}

// Awake fails for a job that somebody has suspended in a cgroup that may hold its shim, too.
func (a *Sources) Awake(rec job.Record) error {
	dir, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).SuspendedAbove()
	if err != nil || dir == "" {
		return err
	}
	return node.Suspended(rec.ID, a.Config.Node, &checkpoint.Suspended{Cgroup: dir})
}

// externalKeys are the external mounts as a dump wants them: path in the job →
// key. The key is the path.
func externalKeys(rec job.Record) map[string]string {
	keys := map[string]string{}
	for path := range launch.ExternalMounts(rec, "", nil) {
		keys[path] = path
	}
	return keys
}

// GetReady does what need not wait until the job stands still. What fails here is
// tried again then.
func (d *Job) GetReady(ctx context.Context) {
	if err := d.Src.Prestart(ctx); err != nil {
		d.A.Log.Warn("prepare the dump", logkey.Job, d.Rec.ID, logkey.Err, err)
	}
}

// Traveller is the record that goes with the frozen job: what it has used here
// has become a part of its past.
func (d *Job) Traveller() job.Record {
	rec := d.Rec
	if used, err := d.Src.Cgroup.CPUTime(); err == nil {
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
func (d *Job) Downtime() time.Duration {
	if d.Frozen.IsZero() {
		return 0
	}
	if !d.Thawed.IsZero() {
		return d.Thawed.Sub(d.Frozen)
	}
	return time.Since(d.Frozen)
}
