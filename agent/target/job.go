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
	targets *Targets
	dirs
	ID job.ID

	mu         sync.Mutex
	receiveErr error // of receiving

	Offered *job.Record // what preflight has seen; nil: nobody offered it

	postCopy bool // memory that was not sent is pulled after the commit
	Recorded bool // the source says who the job's threads are

	shim     *waitingShim // nil until it is made
	Receiver *restore.Receiver
	Received chan error // one value: how receiving ended
	stop     context.CancelFunc
}

func NewJob(a *Targets, move string, id job.ID) *Job {
	return &Job{targets: a, dirs: dirs{a.Paths, move}, ID: id, Received: make(chan error, 1), stop: func() {}}
}

// Open makes the directories.
func (j *Job) Open() error {
	for _, d := range []string{j.Dir(), j.IODir(), j.Images(), j.pages(), j.work()} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return fmt.Errorf("room for the job: %w", err)
		}
	}
	if err := os.Chmod(j.IODir(), launch.IODirMode); err != nil {
		return err
	}
	store, err := pagestore.Create(j.pages())
	if err != nil {
		return err
	}
	j.Receiver = restore.NewReceiver(j.Images(), store, j.IODir())
	return nil
}

// Receive reads the lanes in the background; Prepare waits for it. When one fails
// all are closed: a source that has more to send than the network takes would
// otherwise wait for ever, its job frozen.
func (j *Job) Receive(ctx context.Context, conns []net.Conn) {
	ctx, j.stop = context.WithCancel(ctx)
	closeAll := func() { CloseConns(conns) }
	j.Receiver.Stop = closeAll
	var lanes []io.Reader
	for _, c := range conns {
		lanes = append(lanes, c)
	}
	j.targets.Background.Go(func() {
		release := context.AfterFunc(ctx, closeAll)
		defer release()
		err := j.Receiver.Receive(ctx, lanes)
		j.mu.Lock()
		j.receiveErr = err
		j.mu.Unlock()
		j.Received <- err
	})
}

// ReceiveError is the reason for which receiving failed, nil as long as it has not.
func (j *Job) ReceiveError() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.receiveErr
}

func CloseConns(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close() // the session is given up
	}
}

// SetRecord writes down the record that the job has at the freeze. pulls says that memory
// which was not sent is pulled.
func (j *Job) SetRecord(rec job.Record, pulls bool) error {
	j.postCopy = pulls
	if rec.ID != j.ID {
		return fmt.Errorf("the record is of job %s, the move of %s", rec.ID, j.ID)
	}
	if err := rec.Validate(); err != nil {
		return err
	}
	if j.Offered != nil && !reflect.DeepEqual([]any{rec.Spec, rec.Mounts}, []any{j.Offered.Spec, j.Offered.Mounts}) {
		return fmt.Errorf("job %s is not started as the one that was offered", rec.ID)
	}
	rec = launch.ArrivingRecord(rec)
	if j.shim != nil {
		rec.Cgroup = j.shim.cgroup.Dirs
	}
	return j.SaveRecord(rec)
}

// ClaimAddress has the copy's address be its own on this node, which its record says to others.
func (j *Job) ClaimAddress(rec job.Record) error {
	return j.targets.Launcher.ClaimAddress(rec, func() error { return j.SaveRecord(launch.ArrivingRecord(rec)) })
}

func (j *Job) SaveRecord(rec job.Record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return durable.WriteFile(j.RecordPath(), data, 0o600)
}

func (j *Job) Record() (job.Record, error) {
	return j.targets.IncomingRecord(j.move)
}
