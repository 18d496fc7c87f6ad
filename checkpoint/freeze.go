package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/timens"
)

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
	if err := s.freezeSavable(ctx); err != nil {
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

// StillFrozen asks the kernel whether the job is frozen, by us and only by us. A job that was
// suspended meanwhile must not go on elsewhere.
func (s *Source) StillFrozen(context.Context) error {
	held, err := s.Cgroup.SelfFreezing()
	if err != nil {
		return err
	}
	frozen, err := s.Cgroup.Frozen()
	if err != nil {
		return err
	}
	if !held || !frozen {
		return fmt.Errorf("the job runs, although it was frozen: %s was thawed", s.Cgroup.FreezerDir())
	}
	if err := s.checkAllFrozen(); err != nil {
		return err
	}
	return s.checkSuspended()
}

// checkAllFrozen fails if a task of the job is outside the frozen cgroup. Its user can move tasks
// to any cgroup that the user may write to. They run there.
func (s *Source) checkAllFrozen() error {
	all, err := pidmap.InNamespace(s.Init)
	if err != nil {
		return err
	}
	pids, err := s.Cgroup.Pids()
	if err != nil {
		return err
	}
	for _, e := range all {
		if !e.Zombie() && !slices.Contains(pids, e.Host) {
			return fmt.Errorf("the job runs, although it was frozen: process %d (%s) was moved out of %s", e.Host, e.Comm, s.Cgroup.FreezerDir())
		}
	}
	return nil
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
	if err := s.awaitDump(ctx); err != nil {
		return err
	}
	if err := s.resources().thaw(); err != nil { // the job runs on without rather than not at all
		s.Log.Error("the job runs on, but lacks what was taken out of it", logkey.Err, err)
	}
	if !s.frozenByOther {
		if err := s.Cgroup.Thaw(ctx); err != nil {
			return err
		}
		s.frozenByUs = false
	}
	if s.Interface != nil {
		return network.SetPort(s.Interface.Host, true)
	}
	return nil
}

// Close stops what still goes on and frees what the source knows of the job's memory. Send must
// have returned. A second call changes nothing.
func (s *Source) Close() error {
	s.closePrestarted()
	s.endScans()
	err := s.resources().close()
	if s.memory == nil {
		return err
	}
	err = errors.Join(err, s.memory.pages.Close())
	s.memory = nil
	return err
}
