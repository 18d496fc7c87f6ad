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

// Freeze makes the job stand still and reads its clocks. It fails with [Suspended] if the
// job stands still already: whoever froze it ends that, and Thaw does not.
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

// Stop makes a job that is not wanted any more stand still, whoever has frozen it.
func (s *Source) Stop(ctx context.Context) error {
	if s.Interface != nil {
		if err := network.SetPort(s.Interface.Host, false); err != nil {
			return err
		}
	}
	return s.Cgroup.Freeze(ctx)
}

// StillFrozen asks the kernel whether the job stands still because we froze it, and for
// no other reason: it would go on elsewhere although somebody has suspended it meanwhile.
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
		return fmt.Errorf("the job runs, although it was frozen: somebody thawed %s", s.Cgroup.FreezerDir())
	}
	if err := s.checkAllFrozen(); err != nil {
		return err
	}
	return s.checkSuspended()
}

// checkAllFrozen asks whether all of the job is in the cgroup that is frozen. Its user moves tasks to any
// other in which they may write, without our leave, and there they run.
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
			return fmt.Errorf("the job runs, although it was frozen: somebody has moved process %d (%s) out of %s", e.Host, e.Comm, s.Cgroup.FreezerDir())
		}
	}
	return nil
}

// Thaw ends our freeze, so that the job runs again where it is unless somebody else has
// suspended it. A job that runs keeps running. A dump
// that has not ended, of ours or of an earlier agent, is waited for: CRIU ends by itself
// once it finds its client gone, and leaves the cgroup as it found it, which is frozen.
//
// Send and what Dump began may still go on for a while, until Close: what they read of a
// running job is of no use to anybody, and does no harm.
func (s *Source) Thaw(ctx context.Context) error {
	s.abortScans()
	if err := s.awaitDump(ctx); err != nil {
		return err
	}
	if err := s.restoreQueue(); err != nil { // the job runs on without rather than not at all
		s.Log.Error("messages are lost", logkey.Err, err)
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

// Close stops what still goes on and gives back what the source remembers of the job's
// memory. Send must have returned. A second call changes nothing.
func (s *Source) Close() error {
	s.closePrestarted()
	s.endScans()
	err := s.closePrivate()
	if s.memory == nil {
		return err
	}
	err = errors.Join(err, s.memory.pages.Close())
	s.memory = nil
	return err
}
