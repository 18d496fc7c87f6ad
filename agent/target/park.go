package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/shim"
)

// Prepare restores the job and parks it, once its images are here, and waits for its memory, which
// arrives meanwhile.
func (j *Job) Prepare(ctx context.Context) error {
	if j.Receiver == nil { // the move could not begin, or an earlier agent began it
		return errors.New("nothing of the job was received")
	}
	defer j.targets.Priority.Urgent()()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	arrived := make(chan struct{}) // closed when all lanes have ended well
	var watch sync.WaitGroup
	watch.Go(func() {
		if err := j.awaitLanes(ctx); err != nil {
			stop(err)
			return
		}
		close(arrived)
	})
	err := j.prepare(ctx, arrived)
	stop(err)
	watch.Wait()
	return err
}

func (j *Job) awaitLanes(ctx context.Context) error {
	select {
	case err := <-j.Received:
		j.Received <- err // for a second call
		if err != nil {
			return fmt.Errorf("receive the job: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j *Job) prepare(ctx context.Context, arrived <-chan struct{}) error {
	select {
	case <-j.Receiver.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	rec, err := j.Record()
	if err != nil {
		return err
	}
	return j.park(ctx, rec, arrived)
}

// endPush tells the shim when all memory has arrived.
func (j *Job) endPush(ctx context.Context, client *shim.Client, arrived <-chan struct{}) error {
	select {
	case <-arrived:
		return client.EndPush(ctx, j.postCopy)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Bounds of a restore, from when all memory that it may wait for is here.
const (
	leastPark = 30 * time.Second // a node that is busy with other things
	parkTime  = 60 * time.Second // where no source says what it forecasts
	mostPark  = time.Hour
)

// BoundPark bounds the restore by what the source forecasts.
func (j *Job) BoundPark(within time.Duration) {
	if within > 0 {
		j.parkTime = min(max(within, leastPark), mostPark)
	}
}

// causeTime bounds how long a restore is waited for whose memory has no place any more.
const causeTime = 5 * time.Second

// park has the job's shim restore it.
func (j *Job) park(ctx context.Context, rec job.Record, arrived <-chan struct{}) error {
	room, err := j.StartShim(ctx, rec)
	if err != nil {
		return err
	}
	defer j.Receiver.CloseMounts() // CRIU has them now, or nobody needs them
	if rec.Spec.UserNS {
		uids, _ := launch.IDMaps(rec.Spec)
		root, _ := namespaces.HostID(uids, 0) // which is in every map
		if err := image.Give(j.Images(), int(root)); err != nil {
			return err
		}
		done, err := openFaultAccess()
		if err != nil {
			return err
		}
		defer func() {
			if err := done(); err != nil {
				j.targets.Log.Error("userfaultfd", logkey.Err, err)
			}
		}()
	}
	both, ctx := errgroup.WithContext(ctx)
	// Before the shim reads the store: it would miss pages that came later.
	if err := j.Receiver.HandOver(func() restore.PageSink { return room.client.Pages(ctx, false) }); err != nil {
		return err
	}
	parking, late := context.WithCancelCause(ctx)
	defer late(nil)
	var pushed error
	both.Go(func() error {
		pushed = j.endPush(ctx, room.client, arrived)
		within := cmp.Or(j.parkTime, parkTime)
		why := fmt.Errorf("CRIU did not finish the restore within %v, all memory being here; a file server that does not answer may hold it up", within.Round(time.Second))
		if pushed != nil { // the restore may have ended before, and tells the cause
			within, why = causeTime, pushed
		}
		time.AfterFunc(within, func() { late(why) })
		return nil
	})
	plan, err := j.plan(rec, room.cfg)
	if err != nil {
		return err
	}
	both.Go(func() error {
		return room.client.Park(parking, shim.ParkRequest{Plan: plan, Volatile: j.Memory()})
	})
	err = both.Wait()
	if err == nil || errors.Is(err, context.Canceled) {
		err = errors.Join(pushed, err)
	}
	if err == nil {
		return room.cgroup.Limit(cgroup.Limits{Pids: rec.Spec.Limits.Pids})
	}
	if kept := j.targets.SaveCRIULog(filepath.Join(j.work(), "restore.log"), j.move+"-restore.log"); kept != "" {
		return fmt.Errorf("%w (all of CRIU's log: %s on %s)", err, kept, j.targets.Config.Node)
	}
	return err
}

// plan is the shim's plan of the restore.
func (j *Job) plan(rec job.Record, cfg shim.Config) (restore.Plan, error) {
	launched, err := launch.NamespaceConfig(rec, cfg.RootDir(), j.IODir())
	if err != nil {
		return restore.Plan{}, err
	}
	var mounts []restore.Mount
	dirs := map[string]string{}
	received := j.Receiver.Mounts()
	for i, at := range table.Carried.Mounts() {
		if _, ok := received[at]; ok || !slices.Contains(table.Carried.BuiltMounts(), at) { // else what is left there of an earlier try would be the job's
			dirs[at] = cfg.MountDir(i)
		}
	}
	for at, f := range received {
		mounts = append(mounts, restore.Mount{Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), Dir: dirs[at]})
	}
	var binds []restore.Bind
	for i, m := range launch.NodeMounts(rec) {
		binds = append(binds, restore.Bind{Mount: m, Dir: cfg.BindDir(i)})
	}
	return restore.Plan{
		Images: j.Images(), Store: j.pages(), Work: j.work(), TCP: true, RestoreEnv: *cfg.RestoreEnv,
		Mounts: launch.ExternalMounts(rec, j.IODir(), dirs), Binds: binds, Private: mounts,
		Interface: launch.JobInterface(rec), Rule: launch.IdentityRule(launched), Recorded: j.Recorded, Handover: j.Offered != nil,
	}, nil
}
