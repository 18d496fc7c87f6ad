package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/failpoint"
	"github.com/migrate-hpc/migrate/inject"
	"github.com/migrate-hpc/migrate/logkey"
)

// Dump has CRIU save everything but the job's lazy memory. It sets the clocks in the images to the
// reading of the freeze. So the job does not see the time of the dump. The job stays frozen,
// unless Dump fails.
//
// Meanwhile the frozen memory is scanned, and what the target lacks is sent. That may still go on
// when Dump returns. Send waits for it, Thaw stops it, and Close waits for its end.
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
	mode, external, err := s.freezeResources(ctx)
	if err != nil {
		return 0, err
	}
	standby, err := s.prestarted.take(ctx, s.CRIU, s.Init, mode)
	if err != nil {
		return 0, err
	}
	defer standby.Close() // unless it was used
	req, run, err := s.request(mode)
	if err != nil {
		return 0, err
	}
	defer run.close()
	req.Opts.External = append(req.Opts.External, external...)
	dumping, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	holds := make(chan struct{})
	defer s.watchDump(dumping, standby.Pid(), holds, giveUp)()
	var who identityRecorder
	defer who.wait()
	run.Notify = func(_ context.Context, name string, _ int) error {
		switch name {
		case seized:
			close(holds)
			who.start(s.Init)
			return s.whenSeized(ctx, m, lanes[0], giveUp)
		case imagesWritten:
			return s.resources().snapshot(ctx)
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
	if err := errors.Join(who.save(s.Images()), s.resources().fixImages()); err != nil {
		return res.Took, err
	}
	return res.Took, s.fixImages()
}

// whenSeized begins what goes on while CRIU dumps.
func (s *Source) whenSeized(ctx context.Context, m *memory, lane io.Writer, failed func(error)) error {
	if err := s.lockNetwork(); err != nil {
		return err
	}
	if err := m.beginScan(ctx, &s.Processes, failed); err != nil {
		return err
	}
	if !m.shared { // else Send does it
		s.resources().beginLastRound(ctx, lane, failed)
	}
	return nil
}

// freezeResources has the resources of the frozen job saved, and decides who carries its
// network meanwhile.
func (s *Source) freezeResources(ctx context.Context) (mode image.Network, external []string, err error) {
	decided := make(chan string, 1)
	go func() {
		var why string
		mode, why = s.network.mode(&s.Processes, s.Interface)
		decided <- why
	}()
	external, err = s.resources().freeze(ctx)
	if why := <-decided; why != "" {
		s.Log.Info("the job's network is left to CRIU", logkey.Why, why)
	}
	if err == nil {
		err = image.SetNetwork(s.Images(), mode)
	}
	return mode, external, err
}

// fixImages corrects the images.
func (s *Source) fixImages() error {
	if err := errors.Join(image.WakeTimers(s.Images()), image.TieBinds(s.Images())); err != nil {
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
	if err := image.ReserveAsBefore(s.Images()); err != nil {
		return err
	}
	return image.SetClocks(s.Images(), s.clock.Mono, s.clock.Boot)
}

// seized is CRIU's notification that it has seized every task. The memory does not change any more
// after it. Before, a task may be inside a system call, where the freezer left it. CRIU interrupts
// that call, and the kernel may write its results. Every client gets this notification, whether or
// not there is a network to lock.
const seized = "query-ext-files"

// imagesWritten is the notification that all images are written. CRIU has not yet removed what it
// has made in the job's file systems.
const imagesWritten = "post-dump"

// watchDump gives up a dump that cannot end. When the job is suspended meanwhile, no task runs CRIU's
// parasite code any more. The channel seized is closed when the process criu has seized the tasks.
func (p *Processes) watchDump(dumping context.Context, criu int, seized <-chan struct{}, giveUp func(error)) (end func()) {
	ctx, stop := context.WithCancel(dumping)
	var watching sync.WaitGroup
	if !p.Cgroup.FrozenTasksWake() {
		watching.Go(func() {
			if err := inject.FreeStopped(ctx, p.Cgroup, criu, seized); err != nil && ctx.Err() == nil {
				giveUp(err)
			}
		})
	}
	watching.Go(func() {
		late := time.NewTimer(seizeTime)
		defer late.Stop()
		seized := seized // nil once that is said
		for {
			select {
			case <-ctx.Done():
				return
			case <-seized:
				late.Stop()
				seized = nil
			case <-late.C:
				giveUp(errNotSeized)
				return
			case <-time.After(watchPause):
			}
			if err := p.checkSuspended(); err != nil {
				giveUp(err)
				return
			}
		}
	})
	return func() {
		stop()
		watching.Wait()
	}
}

// errNotSeized says that CRIU has not seized the job's tasks.
var errNotSeized = fmt.Errorf("CRIU has not got hold of the job's tasks within %v", seizeTime)

const (
	seizeTime  = 20 * time.Second // CRIU gives up by itself after 10
	watchPause = 100 * time.Millisecond
)
