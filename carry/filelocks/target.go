package filelocks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/inject"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/pidmap"
)

type restorer struct {
	carry.NoRestorer
	env     carry.Env
	init    int
	process int // a pidfd of PID 1, -1: not opened
	locks   []*lock
	threads []int // of the job, by their numbers in it, if a process has to take a lock
}

// NewRestorer is the half of the node that a job comes to.
func NewRestorer(e carry.Env) carry.Restorer { return &restorer{env: e, process: -1} }

// Prepare takes the locks away from CRIU.
func (r *restorer) Prepare() error {
	taken, err := image.TakeExclusiveLocks(r.env.Images)
	for _, l := range taken {
		r.locks = append(r.locks, &lock{FileLock: l, fd: -1})
	}
	return err
}

func (r *restorer) NamespacesMade(init int) error {
	r.init = init
	return nil
}

// Parked takes what is free. A job that comes from no running copy must get all: nobody lets go of
// the others for it.
func (r *restorer) Parked() error {
	if len(r.locks) == 0 {
		return nil
	}
	if err := r.open(); err != nil {
		return fmt.Errorf("locks on files: %w", err)
	}
	if err := each(r.locks, (*lock).take); err != nil {
		return err
	}
	for _, l := range r.locks {
		if !l.held && !r.env.Handover {
			return l.errorf(errors.New("another process has it; have that let go (`lslocks` lists them), and restore again"))
		}
	}
	return nil
}

func (l *lock) errorf(err error) error {
	return fmt.Errorf("lock of process %d of the job on its descriptor %d: %w", l.PID, l.FD, err)
}

// open finds the open files.
func (r *restorer) open() (err error) {
	if r.process, err = unix.PidfdOpen(r.init, 0); err != nil {
		return err
	}
	entries, err := pidmap.InNamespace(r.init)
	if err != nil {
		return err
	}
	pids := map[int]int{}
	for _, e := range entries {
		pids[e.Job] = e.Host
	}
	byProcess := false
	for _, l := range r.locks {
		pid, ok := pids[l.PID]
		if !ok {
			return l.errorf(unix.ESRCH)
		}
		if err := l.open(pid); err != nil {
			return err
		}
		byProcess = byProcess || l.byProcess()
	}
	if !byProcess {
		return nil
	}
	for _, e := range entries { // no other thread may run before the lock is there
		for _, t := range e.Threads {
			r.threads = append(r.threads, t.Job)
		}
	}
	return nil
}

// Commit comes when a copy that has all of its locks will run.
func (r *restorer) Commit() error {
	if r.Waits() || r.threads != nil {
		return nil
	}
	return r.close()
}

// Waits tells whether another process has a lock.
func (r *restorer) Waits() bool {
	for _, l := range r.locks {
		if !l.held {
			return true
		}
	}
	return false
}

const (
	// pause is how often a lock is asked for: no file server tells all of its clients of one that is free.
	pause = time.Millisecond
	// patience is for how many pauses those that were got are kept for the others: who has one of the
	// others may wait for one of these.
	patience = 200
)

// Wait waits for the locks that others have.
func (r *restorer) Wait(ctx context.Context) error {
	missing := slices.DeleteFunc(slices.Clone(r.locks), func(l *lock) bool { return l.held })
	for asked := 1; ; asked++ {
		err := each(missing, (*lock).take)
		if err == nil && r.Waits() && asked%patience == 0 {
			err = each(missing, (*lock).drop)
		}
		if err == nil && !r.Waits() && r.threads == nil {
			err = r.close()
		}
		if err != nil || !r.Waits() {
			return err
		}
		if err := linux.Alive(r.process); err != nil {
			return fmt.Errorf("the job has ended: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func each(locks []*lock, do func(*lock) error) error {
	for _, l := range locks {
		if err := do(l); err != nil {
			return l.errorf(err)
		}
	}
	return nil
}

// Threads are all of the job's, if one has to take a lock itself.
func (r *restorer) Threads() []int { return r.threads }

// Mend has processes take their locks while nothing of the job runs. A job without a lock that it
// believes to have would do damage: it is ended.
func (r *restorer) Mend(threads map[int]*inject.Thread) error {
	defer r.close()
	for _, l := range r.locks {
		t, ok := threads[l.PID]
		if !l.byProcess() || !ok { // it has been killed
			continue
		}
		if err := l.pass(t); err != nil {
			err = l.errorf(fmt.Errorf("%w; the job is ended, for it would write to a file that it has not locked", err))
			return errors.Join(err, unix.PidfdSendSignal(r.process, unix.SIGKILL, nil, 0))
		}
	}
	return nil
}

// Undo lets go of what was taken: the copy, which has it too, will not run.
func (r *restorer) Undo() error { return r.close() }

func (r *restorer) close() error {
	var errs []error
	for _, l := range r.locks {
		if l.fd >= 0 {
			errs = append(errs, unix.Close(l.fd))
		}
		l.fd = -1
	}
	if r.process >= 0 {
		errs = append(errs, unix.Close(r.process))
	}
	r.process = -1
	return errors.Join(errs...)
}
