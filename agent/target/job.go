package target

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
)

// Job is the copy of a job on the node that it comes to: handoff.Target. What it needs after a
// restart of the agent is in its directory.
type Job struct {
	targets *Targets
	dirs
	ID job.ID

	mu         sync.Mutex
	receiveErr error // of receiving

	Offered *job.Record // as the source offered it to preflight; nil without an offer

	parkTime time.Duration // 0: a source that forecasts nothing

	postCopy bool // memory that was not sent is pulled after the commit
	Recorded bool // the images hold the credentials of the job's threads

	shim     *waitingShim // nil until it is started
	Receiver *restore.Receiver
	Received chan error // one value, when receiving has ended
	stop     context.CancelFunc
}

// NewJob is the copy of job id that a move brings here.
func NewJob(a *Targets, move string, id job.ID) *Job {
	return &Job{targets: a, dirs: dirs{a.Paths, move}, ID: id, Received: make(chan error, 1), stop: func() {}}
}

// Open makes the directories and the store of pages.
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

// Receive reads the lanes in the background; Prepare waits for it. When one fails it closes all of
// them: else a source could block on the others for ever, with its job frozen.
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

// ReceiveError is the error of receiving, nil as long as there is none.
func (j *Job) ReceiveError() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.receiveErr
}

// CloseConns closes data connections of a session that is given up.
func CloseConns(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close() // the session is given up
	}
}

// SetRecord writes down the record of the job as of the freeze. With pulls, memory that was not sent
// is pulled. It fails if the job is not the one that was offered.
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

// ClaimAddress claims the job's address on this node by writing the record of the copy.
func (j *Job) ClaimAddress(rec job.Record) error {
	return j.targets.Launcher.ClaimAddress(rec, func() error { return j.SaveRecord(launch.ArrivingRecord(rec)) })
}

// SaveRecord writes the record of the copy, durably.
func (j *Job) SaveRecord(rec job.Record) error {
	data, err := exactjson.Marshal(rec)
	if err != nil {
		return err
	}
	return durable.WriteFile(j.RecordPath(), data, 0o600)
}

// Record is the record of the copy; os.ErrNotExist before it is written and after Publish.
func (j *Job) Record() (job.Record, error) {
	return j.targets.IncomingRecord(j.move)
}
