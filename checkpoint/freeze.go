package checkpoint

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/timens"
)

// Look comes right before Freeze. The job runs, and may do anything.
func (s *Source) Look(ctx context.Context) error { return s.resources().look(ctx) }

// Freeze freezes the job and reads its clocks. A job that is frozen already is [Suspended]: who
// froze it thaws it, and Thaw does not.
func (s *Source) Freeze(ctx context.Context) error {
	if err := s.refuseSuspended(); err != nil {
		return err
	}
	if s.Interface != nil {
		if err := network.SetPort(s.Interface.Host, false); err != nil {
			return err
		}
	}
	if err := s.freeze(ctx, s.Eager, s.thawMended); err != nil {
		return err
	}
	mono, boot, err := timens.Offsets(s.Init)
	if err != nil {
		return err
	}
	now, err := timens.Host()
	if err != nil {
		return err
	}
	r := now.In(mono, boot)
	s.clock = store.Clock{Mono: r.Monotonic, Boot: r.Boottime, Real: r.Realtime}
	return nil
}

// Clock is the reading of the job's clocks at the freeze.
func (s *Source) Clock() store.Clock { return s.clock }

// Stop freezes a job that is not wanted any more, even if it is suspended.
func (s *Source) Stop(ctx context.Context) error {
	if s.Interface != nil {
		if err := network.SetPort(s.Interface.Host, false); err != nil {
			return err
		}
	}
	return s.Cgroup.Freeze(ctx)
}

// Thaw ends our freeze. The job runs again where it is, unless it is suspended. A job that runs
// keeps running.
//
// Thaw waits for a dump that has not ended, of this or of an earlier agent. A CRIU without its
// client ends by itself. It leaves the cgroup frozen, as it found it.
//
// Send, and scans that Dump began, may go on until Close. What they read of a running job is not
// used.
func (s *Source) Thaw(ctx context.Context) error {
	s.abortScans()
	if err := s.dumpPID().await(ctx, &s.Processes); err != nil {
		return err
	}
	if err := s.resources().thaw(); err != nil { // the job runs on without rather than not at all
		s.Log.Error("the job runs on, but lacks what was taken out of it", logkey.Err, err)
	}
	if err := network.Unlock(s.Init); err != nil && !errors.Is(err, os.ErrNotExist) { // it has ended
		s.Log.Error("the job runs on, but its processes cannot reach each other by its own addresses", logkey.Err, err,
			logkey.Try, network.UnlockCommand(s.Init))
	}
	if err := s.thawMended(ctx); err != nil {
		return err
	}
	if s.Interface != nil {
		return network.SetPort(s.Interface.Host, true)
	}
	return nil
}

// mendTime bounds how long threads may take to stop when they are thawed, and what they do then.
const mendTime = 5 * time.Second

// thawMended has threads mended in which the freeze or a dump has left traces, before they run on. They run on in
// any case.
func (s *Source) thawMended(ctx context.Context) error {
	if held, err := s.Cgroup.SelfFreezing(); err != nil || !held || s.frozenByOther || s.checkSuspended() != nil {
		return s.thaw(ctx)
	}
	if all, err := s.Cgroup.Frozen(); err != nil || !all { // what still runs may keep us from seizing a thread
		return s.thaw(ctx)
	}
	menders := carry.MendersOf(s.resources().sources)
	within, cancel := context.WithTimeout(ctx, mendTime)
	defer cancel()
	var thawed error
	err := menders.Mend(within, s.Cgroup, s.Init, func() error {
		thawed = s.thaw(ctx)
		return thawed
	})
	if err != nil && thawed == nil {
		s.Log.Error("the job runs on, but lacks what was taken out of it", logkey.Err, err)
	}
	return thawed
}

// Close stops what still goes on and frees what the source knows of the job's memory. Send must
// have returned. A second call changes nothing.
func (s *Source) Close() error {
	s.prestarted.close()
	s.abortScans()
	err := s.resources().close()
	if s.memory == nil {
		return err
	}
	err = errors.Join(err, s.memory.close())
	s.memory = nil
	return err
}

// abortScans stops what is read of the frozen job and cuts the lanes, because it is not wanted any
// more. It does not wait. A lane that is a file of a stalled file server cannot be cut, and must not
// lengthen the downtime.
func (s *Source) abortScans() {
	s.resources().abort()
	if s.memory != nil {
		s.memory.abort()
	}
}
