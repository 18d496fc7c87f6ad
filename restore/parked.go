package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/restore/uffd"
)

// Parked is a job that exists and does not run, or is about to.
type Parked struct {
	plan     Plan
	server   *uffd.Server
	carried  []carry.Restorer // until it is known who runs
	verdict  chan error       // the answer to CRIU's callback; nil lets the job run
	ended    chan struct{}    // closed when CRIU's restore has ended
	err      error            // and this is how
	locked   bool             // the job's loopback is closed
	released atomic.Bool      // CRIU was about to let go of the tasks
	filled   chan error       // how the fault server ended
	ctx      context.Context
	stop     context.CancelFunc
	init     *namespaces.Process
	waiters  []carry.Waiter
	holds    bool          // the job is frozen when CRIU lets go of it
	menders  carry.Menders // which the job's threads are to be stopped for, before they run
	log      *slog.Logger
}

var errDropped = errors.New("dropped before it ran")

// Memory is the fault server of the job.
func (p *Parked) Memory() *uffd.Server { return p.server }

// Discard ends what is left of a job that is given up, and its fault server.
func (p *Parked) Discard() error {
	err := errors.Join(p.plan.sweep(), every(p.carried, carry.Restorer.Undo))
	p.carried = nil
	p.stop()
	<-p.filled
	return errors.Join(err, p.server.Close())
}

// Resume lets the job run and returns its PID 1; with [Parked.Waits] it stays frozen until LetRun. The
// fault server goes on; see Filled. After an error the process is the same, MayHaveRun tells whether the
// job has run, and Drop follows.
func (p *Parked) Resume() (init *namespaces.Process, err error) {
	p.answer(nil)
	if p.err != nil {
		return p.init, fmt.Errorf("resume: %w", p.err)
	}
	if !p.Waits() {
		p.mend()
	}
	return p.init, nil
}

// MayHaveRun tells whether CRIU had begun to let go of the tasks when a Resume failed. Before that
// no task has run.
func (p *Parked) MayHaveRun() bool { return p.released.Load() }

// Ended is closed when CRIU has ended. A parked job can only be dropped then.
func (p *Parked) Ended() <-chan struct{} { return p.ended }

// Drop undoes the restore: nothing of the job is left.
func (p *Parked) Drop() error {
	p.answer(errDropped)
	return p.Discard()
}

// answer tells CRIU the verdict, unless CRIU has ended, and waits for its end.
func (p *Parked) answer(verdict error) {
	select {
	case p.verdict <- verdict:
		<-p.ended
	case <-p.ended:
	}
}

// Filled waits until all memory of the resumed job is in place. After an error memory is missing:
// the job must be killed before Close.
func (p *Parked) Filled() error { return <-p.filled }

// Close ends the fault server. Before that no task of the job reads memory that has not arrived.
func (p *Parked) Close() error { return p.server.Close() }
