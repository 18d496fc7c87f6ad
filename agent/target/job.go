package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/shim"
)

// Job is the copy of a job on the node that it comes to: handoff.Target.
// What it needs after the agent has restarted is in its directory.
type Job struct {
	a    *Targets
	move string
	Job  job.ID

	mu      sync.Mutex
	failure error // of receiving

	Offered *job.Record // what preflight has seen; nil: nobody offered it

	pulls    bool // memory that was not sent is pulled after the commit
	Recorded bool // the source says who the job's threads are

	room     *room // nil until it is made
	In       *restore.Receiver
	Received chan error // one value: how receiving ended
	stop     context.CancelFunc
}

func NewJob(a *Targets, move string, id job.ID) *Job {
	return &Job{a: a, move: move, Job: id, Received: make(chan error, 1), stop: func() {}}
}

// The durable part of a landing: what is to become the job's directory.
func (l *Job) Dir() string        { return l.a.Paths.Incoming(l.move) }
func (l *Job) IODir() string      { return filepath.Join(l.Dir(), "io") }
func (l *Job) RecordPath() string { return l.a.Paths.IncomingRecord(l.move) }

// The volatile part: images and pages.
func (l *Job) Memory() string { return l.a.Paths.Move(l.move) }
func (l *Job) Images() string { return filepath.Join(l.Memory(), "images") }
func (l *Job) pages() string  { return filepath.Join(l.Memory(), "pages") }
func (l *Job) work() string   { return filepath.Join(l.Memory(), "work") }

// Open makes the directories.
func (l *Job) Open() error {
	for _, d := range []string{l.Dir(), l.IODir(), l.Images(), l.pages(), l.work()} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return fmt.Errorf("room for the job: %w", err)
		}
	}
	if err := os.Chmod(l.IODir(), launch.IODirMode); err != nil {
		return err
	}
	store, err := pagestore.Create(l.pages())
	if err != nil {
		return err
	}
	l.In = restore.NewReceiver(l.Images(), store, l.IODir())
	return nil
}

// Receive reads the lanes in the background; Prepare waits for it. When one fails
// all are closed: a source that has more to send than the network takes would
// otherwise wait for ever, its job frozen.
func (l *Job) Receive(ctx context.Context, conns []net.Conn) {
	ctx, l.stop = context.WithCancel(ctx)
	closeAll := func() { CloseConns(conns) }
	l.In.Stop = closeAll
	var lanes []io.Reader
	for _, c := range conns {
		lanes = append(lanes, c)
	}
	l.a.Background.Go(func() {
		release := context.AfterFunc(ctx, closeAll)
		defer release()
		err := l.In.Receive(ctx, lanes)
		l.mu.Lock()
		l.failure = err
		l.mu.Unlock()
		l.Received <- err
	})
}

// Why is the reason for which receiving failed, nil as long as it has not.
func (l *Job) Why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

func CloseConns(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close() // the session is given up
	}
}

// Expect writes down the record that the job has at the freeze. pulls says that memory
// which was not sent is pulled.
func (l *Job) Expect(rec job.Record, pulls bool) error {
	l.pulls = pulls
	if rec.ID != l.Job {
		return fmt.Errorf("the record is of job %s, the move of %s", rec.ID, l.Job)
	}
	if err := rec.Validate(); err != nil {
		return err
	}
	if l.Offered != nil && !reflect.DeepEqual([]any{rec.Spec, rec.Mounts}, []any{l.Offered.Spec, l.Offered.Mounts}) {
		return fmt.Errorf("job %s is not started as the one that was offered", rec.ID)
	}
	rec = launch.Arriving(rec)
	if l.room != nil {
		rec.Cgroup = l.room.cgroup.Dirs
	}
	return l.Save(rec)
}

// Admit has the copy's address be its own on this node, which its record says to others.
func (l *Job) Admit(rec job.Record) error {
	return l.a.Launcher.Assign(rec, func() error { return l.Save(launch.Arriving(rec)) })
}

func (l *Job) Save(rec job.Record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return durable.WriteFile(l.RecordPath(), data, 0o600)
}

func (l *Job) Record() (job.Record, error) {
	return l.a.IncomingRecord(l.move)
}

// Prepare restores the job and parks it, once its images are here, and waits for its
// memory, which comes meanwhile.
func (l *Job) Prepare(ctx context.Context) error {
	if l.In == nil { // of a move that could not begin, or that an earlier agent began
		return errors.New("nothing of the job was received")
	}
	defer l.a.Priority.Urgent()()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	arrived := make(chan struct{}) // closed when all lanes have ended well
	var watch sync.WaitGroup
	watch.Go(func() {
		if err := l.awaitLanes(ctx); err != nil {
			stop(err)
			return
		}
		close(arrived)
	})
	err := l.prepare(ctx, arrived)
	stop(err)
	watch.Wait()
	return err
}

func (l *Job) awaitLanes(ctx context.Context) error {
	select {
	case err := <-l.Received:
		l.Received <- err // for a second call
		if err != nil {
			return fmt.Errorf("receive the job: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Job) prepare(ctx context.Context, arrived <-chan struct{}) error {
	select {
	case <-l.In.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	rec, err := l.Record()
	if err != nil {
		return err
	}
	return l.park(ctx, rec, arrived)
}

// settle tells the shim when all memory has come.
func (l *Job) settle(ctx context.Context, client *shim.Client, arrived <-chan struct{}) error {
	select {
	case <-arrived:
		return client.EndPush(ctx, l.pulls)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// parkTime bounds a restore, from when all memory is here that it may have to wait for.
const parkTime = 60 * time.Second

// park has the job's shim restore it.
func (l *Job) park(ctx context.Context, rec job.Record, arrived <-chan struct{}) error {
	room, err := l.MakeRoom(ctx, rec)
	if err != nil {
		return err
	}
	defer l.In.ClosePrivateMounts() // CRIU has them now, or nobody needs them
	if rec.Spec.UserNS {
		uids, _ := launch.IdMaps(rec.Spec)
		root, _ := namespaces.HostID(uids, 0) // which is in every map
		if err := image.Give(l.Images(), int(root)); err != nil {
			return err
		}
		done, err := openFaultAccess()
		if err != nil {
			return err
		}
		defer func() {
			if err := done(); err != nil {
				l.a.Log.Error("userfaultfd", logkey.Err, err)
			}
		}()
	}
	both, ctx := errgroup.WithContext(ctx)
	// Before the shim reads what is in the store: what came later would escape it.
	if err := l.In.HandOver(func() restore.PageSink { return room.client.Pages(ctx, false) }); err != nil {
		return err
	}
	parking, late := context.WithCancelCause(ctx)
	defer late(nil)
	both.Go(func() error {
		err := l.settle(ctx, room.client, arrived)
		if err == nil {
			time.AfterFunc(parkTime, func() { late(fmt.Errorf("CRIU did not finish the restore within %v", parkTime)) })
		}
		return err
	})
	plan, err := l.plan(rec, room.cfg)
	if err != nil {
		return err
	}
	both.Go(func() error {
		return room.client.Park(parking, shim.ParkRequest{Plan: plan, Volatile: l.Memory()})
	})
	err = both.Wait()
	if err == nil {
		return room.cgroup.Limit(cgroup.Limits{Pids: rec.Spec.Limits.Pids})
	}
	if kept := l.a.KeepLog(filepath.Join(l.work(), "restore.log"), l.move+"-restore.log"); kept != "" {
		return fmt.Errorf("%w (all of CRIU's log: %s on %s)", err, kept, l.a.Config.Node)
	}
	return err
}

// plan says what is restored.
func (l *Job) plan(rec job.Record, cfg shim.Config) (restore.Plan, error) {
	launched, err := launch.NamespaceConfig(rec, cfg.RootDir(), l.IODir())
	if err != nil {
		return restore.Plan{}, err
	}
	var mounts []restore.Mount
	dirs := map[string]string{}
	at, private := l.In.PrivateMounts()
	for i, f := range private {
		dirs[at[i]] = cfg.MountDir(i)
		mounts = append(mounts, restore.Mount{Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), Dir: cfg.MountDir(i)})
	}
	var binds []restore.Bind
	for i, m := range launch.NodeMounts(rec) {
		binds = append(binds, restore.Bind{Mount: m, Dir: cfg.BindDir(i)})
	}
	return restore.Plan{
		Images: l.Images(), Store: l.pages(), Work: l.work(), TCP: true, RestoreEnv: *cfg.RestoreEnv,
		Mounts: launch.ExternalMounts(rec, l.IODir(), cfg.QueueDir(), dirs), Binds: binds, QueueDir: cfg.QueueDir(), Private: mounts,
		Interface: launch.JobInterface(rec), Rule: launch.IdentityRule(launched), Recorded: l.Recorded,
	}, nil
}
