package agent

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

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/shim"
)

// landing is the copy of a job on the node that it comes to: handoff.Target.
// What it needs after the agent has restarted is in its directory.
type landing struct {
	a    *Agent
	move string
	job  job.ID

	mu      sync.Mutex
	failure error // of receiving

	offered *job.Record // what preflight has seen; nil: nobody offered it

	pulls    bool // memory that was not sent is pulled after the commit
	recorded bool // the source says who the job's threads are

	room     *room // nil until it is made
	in       *restore.Receiver
	received chan error // one value: how receiving ended
	stop     context.CancelFunc
}

func newLanding(a *Agent, move string, id job.ID) *landing {
	return &landing{a: a, move: move, job: id, received: make(chan error, 1), stop: func() {}}
}

// The durable part of a landing: what is to become the job's directory.
func (l *landing) dir() string        { return l.a.paths.incoming(l.move) }
func (l *landing) ioDir() string      { return filepath.Join(l.dir(), "io") }
func (l *landing) recordPath() string { return l.a.paths.incomingRecord(l.move) }

// The volatile part: images and pages.
func (l *landing) memory() string { return l.a.paths.move(l.move) }
func (l *landing) images() string { return filepath.Join(l.memory(), "images") }
func (l *landing) pages() string  { return filepath.Join(l.memory(), "pages") }
func (l *landing) work() string   { return filepath.Join(l.memory(), "work") }

// open makes the directories.
func (l *landing) open() error {
	for _, d := range []string{l.dir(), l.ioDir(), l.images(), l.pages(), l.work()} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return fmt.Errorf("room for the job: %w", err)
		}
	}
	if err := os.Chmod(l.ioDir(), ioDirMode); err != nil {
		return err
	}
	store, err := pagestore.Create(l.pages())
	if err != nil {
		return err
	}
	l.in = restore.NewReceiver(l.images(), store, l.ioDir())
	return nil
}

// receive reads the lanes in the background; Prepare waits for it. When one fails
// all are closed: a source that has more to send than the network takes would
// otherwise wait for ever, its job frozen.
func (l *landing) receive(ctx context.Context, conns []net.Conn) {
	ctx, l.stop = context.WithCancel(ctx)
	closeAll := func() { closeConns(conns) }
	l.in.Stop = closeAll
	var lanes []io.Reader
	for _, c := range conns {
		lanes = append(lanes, c)
	}
	l.a.background.Go(func() {
		release := context.AfterFunc(ctx, closeAll)
		defer release()
		err := l.in.Receive(ctx, lanes)
		l.mu.Lock()
		l.failure = err
		l.mu.Unlock()
		l.received <- err
	})
}

// why is the reason for which receiving failed, nil as long as it has not.
func (l *landing) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

func closeConns(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close() // the session is given up
	}
}

// expect writes down the record that the job has at the freeze. pulls says that memory
// which was not sent is pulled.
func (l *landing) expect(rec job.Record, pulls bool) error {
	l.pulls = pulls
	if rec.ID != l.job {
		return fmt.Errorf("the record is of job %s, the move of %s", rec.ID, l.job)
	}
	if err := rec.Validate(); err != nil {
		return err
	}
	if l.offered != nil && !reflect.DeepEqual([]any{rec.Spec, rec.Mounts}, []any{l.offered.Spec, l.offered.Mounts}) {
		return fmt.Errorf("job %s is not started as the one that was offered", rec.ID)
	}
	rec = arriving(rec)
	if l.room != nil {
		rec.Cgroup = l.room.cgroup.Dirs
	}
	return l.save(rec)
}

// admit has the copy's address be its own on this node, which its record says to others.
func (l *landing) admit(rec job.Record) error {
	return l.a.assign(rec, func() error { return l.save(arriving(rec)) })
}

func (l *landing) save(rec job.Record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return durable.WriteFile(l.recordPath(), data, 0o600)
}

func (l *landing) record() (job.Record, error) {
	return l.a.incomingRecord(l.move)
}

// Prepare restores the job and parks it, once its images are here, and waits for its
// memory, which comes meanwhile.
func (l *landing) Prepare(ctx context.Context) error {
	if l.in == nil { // of a move that could not begin, or that an earlier agent began
		return errors.New("nothing of the job was received")
	}
	defer l.a.pace.urgent()()
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

func (l *landing) awaitLanes(ctx context.Context) error {
	select {
	case err := <-l.received:
		l.received <- err // for a second call
		if err != nil {
			return fmt.Errorf("receive the job: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *landing) prepare(ctx context.Context, arrived <-chan struct{}) error {
	select {
	case <-l.in.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	rec, err := l.record()
	if err != nil {
		return err
	}
	return l.park(ctx, rec, arrived)
}

// settle tells the shim when all memory has come.
func (l *landing) settle(ctx context.Context, client *shim.Client, arrived <-chan struct{}) error {
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
func (l *landing) park(ctx context.Context, rec job.Record, arrived <-chan struct{}) error {
	room, err := l.makeRoom(ctx, rec)
	if err != nil {
		return err
	}
	defer l.in.ClosePrivateMounts() // CRIU has them now, or nobody needs them
	if rec.Spec.UserNS {
		uids, _ := idMaps(rec.Spec)
		root, _ := namespaces.HostID(uids, 0) // which is in every map
		if err := image.Give(l.images(), int(root)); err != nil {
			return err
		}
		done, err := openFaultAccess()
		if err != nil {
			return err
		}
		defer func() {
			if err := done(); err != nil {
				l.a.log.Error("userfaultfd", "err", err)
			}
		}()
	}
	both, ctx := errgroup.WithContext(ctx)
	// Before the shim reads what is in the store: what came later would escape it.
	if err := l.in.HandOver(func() restore.PageSink { return room.client.Pages(ctx, false) }); err != nil {
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
		return room.client.Park(parking, shim.ParkRequest{Plan: plan, Volatile: l.memory()})
	})
	err = both.Wait()
	if err == nil {
		return room.cgroup.Limit(namespaces.Limits{Pids: rec.Spec.Limits.Pids})
	}
	if kept := l.a.keepLog(filepath.Join(l.work(), "restore.log"), l.move+"-restore.log"); kept != "" {
		return fmt.Errorf("%w (all of CRIU's log: %s on %s)", err, kept, l.a.cfg.Node)
	}
	return err
}

// plan says what is restored.
func (l *landing) plan(rec job.Record, cfg shim.Config) (restore.Plan, error) {
	launched, err := namespaceConfig(rec, cfg.RootDir(), l.ioDir())
	if err != nil {
		return restore.Plan{}, err
	}
	var mounts []restore.Mount
	dirs := map[string]string{}
	at, private := l.in.PrivateMounts()
	for i, f := range private {
		dirs[at[i]] = cfg.MountDir(i)
		mounts = append(mounts, restore.Mount{Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), Dir: cfg.MountDir(i)})
	}
	var binds []restore.Bind
	for i, m := range nodeMounts(rec) {
		binds = append(binds, restore.Bind{Mount: m, Dir: cfg.BindDir(i)})
	}
	return restore.Plan{
		Images: l.images(), Store: l.pages(), Work: l.work(), TCP: true, RestoreEnv: *cfg.RestoreEnv,
		Mounts: externalMounts(rec, l.ioDir(), cfg.QueueDir(), dirs), Binds: binds, QueueDir: cfg.QueueDir(), Private: mounts,
		Interface: jobInterface(rec), Rule: identityRule(launched), Recorded: l.recorded,
	}, nil
}
