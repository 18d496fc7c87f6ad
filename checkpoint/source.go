package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/failpoint"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/timens"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// Source is a running job that is about to be checkpointed.
type Source struct {
	Init   int // its PID 1, in our pid namespace
	Cgroup *cgroup.Cgroup
	CRIU   *criu.Client
	// External names the job's external mounts: path in the job → key.
	External map[string]string
	Dir      string // on a tmpfs; holds CRIU's images and log while they are needed
	IODir    string // the job's output files
	// Interface is the job's network interface, nil for none.
	Interface *network.Interface
	UserNS    bool // it was given a user namespace of its own
	TCP       bool // save established connections
	Log       *slog.Logger
	// Count is told of memory as it is looked at, in bytes. May be nil.
	Count func(read int64)
	// OnImagesSent is called when everything but memory has been sent: the target can
	// restore the job while that still comes. May be nil.
	OnImagesSent func()
	// PostCopy has Dump and Send tell the target to forget the pages that have changed since
	// the warm-up, instead of sending them: it pulls them.
	PostCopy bool
	// FullSpeed ends that PreCopy gives way to jobs.
	FullSpeed bool
	// Eager has CRIU save all memory, for a restore that keeps copy-on-write memory
	// shared. What the target has of it does not cross again.
	Eager bool
	// Verify has Send read every lazy page once more and send what the target must
	// find it to be.
	Verify bool

	// foreign: somebody else froze the job where we do, before us. That is not ours to end.
	// ours: we have.
	frozenByOther, frozenByUs bool
	output                    map[string]outputSent // by name
	private                   []*tmpfs.Source       // nil: not opened yet
	baseline                  *network.Baseline
	prestarted                prestarted
	clock                     store.Clock
	memory                    *memory
	scan                      *frozenScan
	privateScan               *privateScan
	// segments is shared memory without a path, nil before it was sent.
	segments *tmpfs.Files
}

// Freeze freezes the job and reads its clocks. It fails with [Suspended] if the
// job is frozen already: who froze it ends that, and Thaw does not.
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

// Stop freezes a job that is not wanted any more, even if others have frozen it.
func (s *Source) Stop(ctx context.Context) error {
	if s.Interface != nil {
		if err := network.SetPort(s.Interface.Host, false); err != nil {
			return err
		}
	}
	return s.Cgroup.Freeze(ctx)
}

// StillFrozen asks the kernel whether the job is frozen because we froze it, and for
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

// Images is the directory that Dump fills.
func (s *Source) Images() string { return filepath.Join(s.Dir, "images") }

// DumpLog is where CRIU explains itself.
func (s *Source) DumpLog() string { return filepath.Join(s.Dir, "dump.log") }

// Dump has CRIU save everything but the job's lazy memory and sets the clocks in
// the images to the reading of the freeze, so that the time which the dump takes
// does not pass for the job. The job stays frozen, unless it fails.
//
// While CRIU works the frozen memory is looked at, and what the target lacks of it is
// sent. That may still go on when Dump returns; Send waits for it, Thaw stops it, and
// Close waits for its end.
func (s *Source) Dump(ctx context.Context, lanes []io.Writer) (time.Duration, error) {
	took, err := s.dump(ctx, lanes)
	if err != nil {
		s.abortScans()
	}
	return took, err
}

func (s *Source) dump(ctx context.Context, lanes []io.Writer) (time.Duration, error) {
	if err := os.RemoveAll(s.Images()); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(s.Images(), 0o700); err != nil {
		return 0, err
	}
	m, err := s.memoryOn(lanes)
	if err != nil {
		return 0, err
	}
	mode, queues, queueMount, err := s.uncarried()
	if err != nil {
		return 0, err
	}
	standby, err := s.takePrestarted(ctx, mode)
	if err != nil {
		return 0, err
	}
	defer standby.Close() // unless it was used
	req, run, err := s.request(mode)
	if err != nil {
		return 0, err
	}
	defer run.close()
	for _, q := range queues {
		req.Opts.External = append(req.Opts.External, q.key)
	}
	dumping, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	holds := make(chan struct{})
	defer s.watch(dumping, holds, giveUp)()
	var who identityRecorder
	defer who.wait()
	run.Notify = func(_ context.Context, name string, _ int) error {
		switch name {
		case seized:
			close(holds)
			who.start(s.Init)
			if err := s.beginScan(ctx, m, giveUp); err != nil {
				return err
			}
			return s.beginPrivateScan(ctx, m, lanes[0], giveUp)
		case imagesWritten:
			return s.snapshotPrivate(ctx)
		}
		return nil
	}
	res, err := standby.Dump(dumping, req, run.Run)
	if err == nil {
		err = failpoint.Fail("dump", "ended")
	}
	if err != nil {
		return res.Took, err
	}
	if err := errors.Join(who.save(s.Images()), s.nameQueues(queues, queueMount)); err != nil {
		return res.Took, err
	}
	return res.Took, s.fixImages()
}

// uncarried finds out what CRIU does not carry.
func (s *Source) uncarried() (mode image.Network, queues []queueFD, mount string, err error) {
	decided := make(chan string, 1)
	go func() {
		var why string
		mode, why = s.network()
		decided <- why
	}()
	queues, mount, err = s.queues()
	if why := <-decided; why != "" {
		s.Log.Info("the job's network is left to CRIU", logkey.Why, why)
	}
	if err == nil {
		err = image.SetNetwork(s.Images(), mode)
	}
	return mode, queues, mount, err
}

// fixImages changes what the images say, and reads what a restore will: what could not be
// read there must not be sent or sealed.
func (s *Source) fixImages() error {
	if _, err := image.SocketNames(s.Images()); err != nil {
		return err
	}
	if err := image.WakeTimers(s.Images()); err != nil {
		return err
	}
	if s.Eager {
		if err := image.SetEager(s.Images()); err != nil {
			return err
		}
	} else if size, err := image.MakeLazy(s.Images()); err != nil {
		return err
	} else if size > 0 {
		s.Log.Info("memory that CRIU saved is lazy again", logkey.Bytes, size)
	}
	return image.SetClocks(s.Images(), s.clock.Mono, s.clock.Boot)
}

// seized is the notification by which CRIU says that it holds every task. Not before
// that is the memory still: where the kernel's freezer left a task inside a system
// call, that one is cut short when CRIU takes hold, and may write its results. CRIU
// asks this of every client, whether there is a network to lock or not.
const seized = "query-ext-files"

// imagesWritten is the one that comes when all images are written, and before CRIU removes
// what it has made in the job's file systems.
const imagesWritten = "post-dump"
