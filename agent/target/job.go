package target

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"sync"

	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
)

// Job is the copy of a job on the node that it comes to: handoff.Target.
// What it needs after the agent has restarted is in its directory.
type Job struct {
	a *Targets
	dirs
	Job job.ID

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
	return &Job{a: a, dirs: dirs{a.Paths, move}, Job: id, Received: make(chan error, 1), stop: func() {}}
}

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
