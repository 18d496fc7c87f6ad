package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/preflight"
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

// MayLeave is what the job asks of the node that it comes to, or why it cannot leave.
func (d *Job) MayLeave(ctx context.Context) (preflight.Needs, error) {
	if err := d.free(); err != nil {
		return preflight.Needs{}, err
	}
	needs, findings, err := preflight.CheckJob(ctx, d.Rec, d.Src.Init, d.Src.Cgroup, d.Src.CRIU)
	if err != nil {
		return needs, err
	}
	needs.Eager = d.Src.Eager
	short, err := preflight.CheckImageRoom(needs, d.A.Paths.Memory)
	if findings = append(findings, short...); err == nil && len(findings) > 0 {
		err = peer.Refused(AsFindings(findings))
	}
	return needs, err
}

// Close frees what was kept of the memory that was sent.
func (d *Job) Close() {
	d.Sending.end()
	d.endPull()
	if err := d.Src.Close(); err != nil {
		d.A.Log.Error("memory of a move", logkey.Err, err)
	}
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

// GetReady does what need not wait until the job stands still. What fails here is
// tried again then.
func (d *Job) GetReady(ctx context.Context) {
	if err := d.Src.Prestart(ctx); err != nil {
		d.A.Log.Warn("prepare the dump", logkey.Job, d.Rec.ID, logkey.Err, err)
	}
}

func (d *Job) Freeze(ctx context.Context) error {
	d.tell.Enter(api.PhaseFreeze, "")
	d.Frozen = time.Now()
	ctx, cancel := context.WithTimeout(ctx, FreezeTime)
	defer cancel()
	if err := d.freeze(ctx); err != nil {
		return err
	}
	if err := d.holdsNoKeys(); err != nil {
		return err
	}
	return d.Unthrottle() // what CRIU does in the job's tasks must not be slow
}

// errKeys may come after the preflight, as long as the job runs.
var errKeys = errors.New("the job has keys in its session keyring, which no checkpoint can carry")

func (d *Job) holdsNoKeys() error {
	n, err := osthread.KeyringsWithKeys(string(d.Rec.ID))
	if err == nil && n > 0 {
		err = errKeys
	}
	return err
}

func (d *Job) freeze(ctx context.Context) error {
	open, err := d.A.FreezeLocks.Shut(ctx, d.Rec.ID)
	if err != nil {
		return err
	}
	defer open()
	return d.Src.Freeze(ctx)
}

const FreezeTime = 20 * time.Second

func (d *Job) Transfer(ctx context.Context) error {
	d.tell.Enter(api.PhaseDump, "")
	release := context.AfterFunc(ctx, d.HangUp) // a blocked write does not see the end of ctx
	defer release()
	if _, err := d.Src.Dump(ctx, d.Out); err != nil {
		if kept := d.A.KeepLog(d.Src.DumpLog(), filepath.Base(d.dir)+"-dump.log"); kept != "" {
			return fmt.Errorf("save the job: %w (all of CRIU's log: %s)", err, kept)
		}
		return fmt.Errorf("save the job: %w", err)
	}
	d.tell.Enter(api.PhaseResidue, "")
	if err := d.send(ctx); err != nil {
		return err
	}
	if d.PostCopy { // also what CRIU touches while it restores
		d.beginPull()
	}
	d.tell.Enter(api.PhasePark, "")
	return nil
}

func (d *Job) StillFrozen(ctx context.Context) error {
	d.tell.Enter(api.PhaseCommit, "")
	if err := d.Sending.wait(ctx); err != nil {
		return err
	}
	return d.Src.StillFrozen(ctx)
}

func (d *Job) Thaw(ctx context.Context) error {
	d.tell.Enter(api.PhaseAbort, "")
	d.Sending.giveUp() // close waits for its end: the job does not stand still for a file server
	d.endPull()
	err := errors.Join(d.Unthrottle(), d.Src.Thaw(ctx))
	d.Thawed = time.Now()
	if err != nil {
		return err // the next try must know of a CRIU that still holds the job
	}
	return os.RemoveAll(d.dir)
}

// Release ends the job's copy here, once the target has every page of it. The record
// says where the job is before the frozen tree is gone, so that nobody can be told that
// it was lost.
func (d *Job) Release(ctx context.Context) error {
	d.Sending.end()
	if err := d.recordLeft(); err != nil {
		return err
	}
	if d.Kind == handoff.KindMove && !d.Vouched {
		if err := d.awaitPull(ctx); err != nil {
			return fmt.Errorf("memory is still being pulled by %s: %w", d.To.Node, err)
		}
	}
	d.tell.Enter(api.PhaseRelease, "")
	if err := d.A.Awake(d.Rec); err != nil { // what is frozen ends in its time
		return err
	}
	if err := d.A.ShimOf(d.Rec.ID).Release(ctx); err != nil && !errors.Is(err, shim.ErrGone) {
		return err
	}
	if err := d.A.AwaitShimGone(ctx, d.Rec.ID); err != nil {
		return err
	}
	var err error
	if d.Kind == handoff.KindMove {
		err = os.RemoveAll(d.A.IODir(d.Rec.ID)) // it went with the job
	}
	// A shim that was killed has freed nothing.
	return errors.Join(err, d.A.Sweep(ctx, d.Rec), os.RemoveAll(d.dir))
}

func (d *Job) recordLeft() error {
	_, err := d.A.Jobs.Update(d.Rec.ID, func(r *job.Record) error {
		r.MovedTo, r.SavedIn = d.To, d.Saved
		if n := len(r.Placements); n > 0 && r.Placements[n-1].To.IsZero() {
			r.Placements[n-1].To = time.Now()
		}
		return nil
	})
	if errors.Is(err, job.ErrNotFound) {
		return nil // forgotten by its user meanwhile
	}
	return err
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

// free refuses a job that somebody else keeps from running. No move of it may be under way.
func (d *Job) free() error {
	by, err := checkpoint.FindSuspension(d.Src.Cgroup)
	if err != nil || by == nil {
		return err
	}
	return node.Suspended(d.Rec.ID, d.A.Config.Node, by)
}

// EndCopy ends a copy that runs here and is wanted no more.
func (a *Sources) EndCopy(ctx context.Context, rec job.Record, move string, from node.Origin) error {
	d, err := a.JobOf(ctx, rec, move, nil)
	if err != nil {
		return err
	}
	d.Kind, d.To, d.Saved = from.Kind, from.To, from.Saved
	return Ending{d}.Release(ctx)
}

// Ending is a departure of a job that may run, and that is wanted no more: the peer is
// not asked what it lacks.
type Ending struct{ *Job }

func (e Ending) Release(ctx context.Context) error {
	e.Vouched = true
	rec, err := e.A.Jobs.Get(e.Rec.ID)
	if err == nil && rec.Exit != nil {
		return os.RemoveAll(e.dir) // it came to its end here
	}
	if e.Src.Init != 0 {
		if err := e.Src.Stop(ctx); err != nil {
			return err
		}
	}
	return e.Job.Release(ctx)
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
