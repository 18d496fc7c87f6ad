package agent

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
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/shim"
)

// departure is the job on the node that it leaves: handoff.Source. It can be
// made anew from the job's record at any time, which is what recovery does.
type departure struct {
	a     *Agent
	rec   job.Record
	src   *checkpoint.Source
	dir   string       // on the tmpfs
	kind  handoff.Kind // of the move; none when what is here only ends
	to    *job.Moved   // where a move takes it
	saved string       // the directory that a checkpoint leaves it in
	out   []io.Writer  // lanes; nil in recovery
	tell  *account
	// hangUp closes the lanes, why asks the target what was wrong.
	hangUp func()
	why    func(context.Context) error

	fullSpeed int64    // thousandths of a core that the job uses unthrottled; 0: never throttled
	sending   *sending // what Transfer has begun
	postCopy  bool     // memory that the target lacks at the freeze is pulled
	pull      *pull    // nil: nobody has asked for that yet
	vouched   bool     // an operator has decided: the target is not asked what it lacks
	bandwidth int64    // of the pull, bytes per second; 0 is no limit

	total  int64 // of memory, bytes, as far as known
	read   atomic.Int64
	pulled atomic.Int64 // of memory, bytes: what the target has asked for
	// pullSent is what that took on the wire.
	pullSent atomic.Int64
	frozen   time.Time
	thawed   time.Time
}

// departureOf finds the job behind a record. One whose shim is gone can still be
// released.
func (a *Agent) departureOf(ctx context.Context, rec job.Record, move string, tell *account) (*departure, error) {
	st, err := a.patientStatus(ctx, rec)
	if err != nil && !errors.Is(err, shim.ErrGone) {
		return nil, err
	}
	d := &departure{a: a, rec: rec, dir: a.paths.move(move), tell: tell,
		hangUp: func() {}, why: func(context.Context) error { return nil }}
	cg := &namespaces.Cgroup{Dirs: rec.Cgroup}
	d.total = residentMemory(cg)
	d.src = &checkpoint.Source{
		Init: st.Init, Cgroup: cg, CRIU: a.criuClient(),
		External: externalKeys(rec), Dir: d.dir, IODir: a.ioDir(rec.ID), Interface: jobInterface(rec), UserNS: rec.Spec.UserNS, TCP: true, Log: a.log,
		Count: func(n int64) { d.read.Add(n) },
	}
	return d, nil
}

// patientStatus waits for the word of a shim that is busy, but not of one that was
// suspended together with its job.
func (a *Agent) patientStatus(ctx context.Context, rec job.Record) (shim.Status, error) {
	st, err := a.status(ctx, rec.ID)
	if err == nil || errors.Is(err, shim.ErrGone) || ctx.Err() != nil {
		return st, err
	}
	if err := a.awake(rec); err != nil {
		return st, err
	}
	return a.shimOf(rec.ID).Status(ctx)
}

// awake fails for a job that somebody has suspended in a cgroup that may hold its shim, too.
func (a *Agent) awake(rec job.Record) error {
	dir, err := (&namespaces.Cgroup{Dirs: rec.Cgroup}).SuspendedAbove()
	if err != nil || dir == "" {
		return err
	}
	return suspended(rec.ID, a.cfg.Node, &checkpoint.Suspended{Cgroup: dir})
}

// mayLeave is what the job asks of the node that it comes to, or why it cannot leave.
func (d *departure) mayLeave(ctx context.Context) (preflight.Needs, error) {
	if err := d.free(); err != nil {
		return preflight.Needs{}, err
	}
	needs, findings, err := preflight.CheckJob(ctx, d.rec, d.src.Init, d.src.Cgroup, d.src.CRIU)
	if err != nil {
		return needs, err
	}
	needs.Eager = d.src.Eager
	short, err := preflight.CheckImageRoom(needs, d.a.paths.memory)
	if findings = append(findings, short...); err == nil && len(findings) > 0 {
		err = refused(asFindings(findings))
	}
	return needs, err
}

// close frees what was kept of the memory that was sent.
func (d *departure) close() {
	d.sending.end()
	d.endPull()
	if err := d.src.Close(); err != nil {
		d.a.log.Error("memory of a move", "err", err)
	}
}

// externalKeys are the external mounts as a dump wants them: path in the job →
// key. The key is the path.
func externalKeys(rec job.Record) map[string]string {
	keys := map[string]string{}
	for path := range externalMounts(rec, "", "", nil) {
		keys[path] = path
	}
	return keys
}

// getReady does what need not wait until the job stands still. What fails here is
// tried again then.
func (d *departure) getReady(ctx context.Context) {
	if err := d.src.Prestart(ctx); err != nil {
		d.a.log.Warn("prepare the dump", "job", d.rec.ID, "err", err)
	}
}

func (d *departure) Freeze(ctx context.Context) error {
	d.tell.enter(api.PhaseFreeze, "")
	d.frozen = time.Now()
	ctx, cancel := context.WithTimeout(ctx, freezeTime)
	defer cancel()
	if err := d.freeze(ctx); err != nil {
		return err
	}
	if err := d.holdsNoKeys(); err != nil {
		return err
	}
	return d.unthrottle() // what CRIU does in the job's tasks must not be slow
}

// errKeys may come after the preflight, as long as the job runs.
var errKeys = errors.New("the job has keys in its session keyring, which no checkpoint can carry")

func (d *departure) holdsNoKeys() error {
	n, err := osthread.KeyringsWithKeys(string(d.rec.ID))
	if err == nil && n > 0 {
		err = errKeys
	}
	return err
}

func (d *departure) freeze(ctx context.Context) error {
	open, err := d.a.gates.shut(ctx, d.rec.ID)
	if err != nil {
		return err
	}
	defer open()
	return d.src.Freeze(ctx)
}

const freezeTime = 20 * time.Second

func (d *departure) Transfer(ctx context.Context) error {
	d.tell.enter(api.PhaseDump, "")
	release := context.AfterFunc(ctx, d.hangUp) // a blocked write does not see the end of ctx
	defer release()
	if _, err := d.src.Dump(ctx, d.out); err != nil {
		if kept := d.a.keepLog(d.src.DumpLog(), filepath.Base(d.dir)+"-dump.log"); kept != "" {
			return fmt.Errorf("save the job: %w (all of CRIU's log: %s)", err, kept)
		}
		return fmt.Errorf("save the job: %w", err)
	}
	d.tell.enter(api.PhaseResidue, "")
	if err := d.send(ctx); err != nil {
		return err
	}
	if d.postCopy { // also what CRIU touches while it restores
		d.beginPull()
	}
	d.tell.enter(api.PhasePark, "")
	return nil
}

func (d *departure) StillFrozen(ctx context.Context) error {
	d.tell.enter(api.PhaseCommit, "")
	if err := d.sending.wait(ctx); err != nil {
		return err
	}
	return d.src.StillFrozen(ctx)
}

func (d *departure) Thaw(ctx context.Context) error {
	d.tell.enter(api.PhaseAbort, "")
	d.sending.giveUp() // close waits for its end: the job does not stand still for a file server
	d.endPull()
	err := errors.Join(d.unthrottle(), d.src.Thaw(ctx))
	d.thawed = time.Now()
	if err != nil {
		return err // the next try must know of a CRIU that still holds the job
	}
	return os.RemoveAll(d.dir)
}

// Release ends the job's copy here, once the target has every page of it. The record
// says where the job is before the frozen tree is gone, so that nobody can be told that
// it was lost.
func (d *departure) Release(ctx context.Context) error {
	d.sending.end()
	if err := d.recordLeft(); err != nil {
		return err
	}
	if d.kind == handoff.KindMove && !d.vouched {
		if err := d.awaitPull(ctx); err != nil {
			return fmt.Errorf("memory is still being pulled by %s: %w", d.to.Node, err)
		}
	}
	d.tell.enter(api.PhaseRelease, "")
	if err := d.a.awake(d.rec); err != nil { // what is frozen ends in its time
		return err
	}
	if err := d.a.shimOf(d.rec.ID).Release(ctx); err != nil && !errors.Is(err, shim.ErrGone) {
		return err
	}
	if err := d.a.awaitShimGone(ctx, d.rec.ID); err != nil {
		return err
	}
	var err error
	if d.kind == handoff.KindMove {
		err = os.RemoveAll(d.a.ioDir(d.rec.ID)) // it went with the job
	}
	// A shim that was killed has freed nothing.
	return errors.Join(err, d.a.sweep(ctx, d.rec), os.RemoveAll(d.dir))
}

func (d *departure) recordLeft() error {
	_, err := d.a.jobs.Update(d.rec.ID, func(r *job.Record) error {
		r.MovedTo, r.SavedIn = d.to, d.saved
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

// awaitShimGone waits until the shim has cleaned up and ended, so that the job
// may come back.
func (a *Agent) awaitShimGone(ctx context.Context, id job.ID) error {
	for {
		st, err := a.shimOf(id).Status(ctx)
		if errors.Is(err, shim.ErrGone) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			awaitProcess(ctx, st.Shim, time.Second)
		} else {
			time.Sleep(busyPause)
		}
	}
}

// traveller is the record that goes with the frozen job: what it has used here
// has become a part of its past.
func (d *departure) traveller() job.Record {
	rec := d.rec
	if used, err := d.src.Cgroup.CPUTime(); err == nil {
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
