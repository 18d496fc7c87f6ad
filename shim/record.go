package shim

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
)

// Pauses between two tries to write down how the job ended.
const (
	minRecordPause = 100 * time.Millisecond
	maxRecordPause = 5 * time.Second
)

// record writes down how the job ended, durably, before the status tells it. It retries until the
// disk accepts it. No other place has the exit. While the job's move is not finished, the exit is
// also the only proof that the job has run here. A job that was removed needs no record.
func (s *shim) record(exit job.Exit) {
	for pause := minRecordPause; ; pause = min(2*pause, maxRecordPause) {
		err := s.write(exit)
		if err == nil || errors.Is(err, job.ErrNotFound) {
			return
		}
		if pause == minRecordPause {
			s.log.Error("the job's end could not be written down yet", logkey.Err, err)
			s.publishExit(exit)
		}
		time.Sleep(pause)
	}
}

func (s *shim) write(exit job.Exit) error {
	_, err := s.store.Update(s.cfg.Job, func(r *job.Record) error {
		mine := exit
		mine.CPU += r.CPUBefore
		r.Exit = &mine
		if n := len(r.Placements); n > 0 {
			r.Placements[n-1].To = exit.At
		}
		return nil
	})
	return err
}

// publishExit has the status tell what is not in the record yet.
func (s *shim) publishExit(exit job.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.exit = Exited, &exit
}

// exitOf is how the job ended; its CPU time is what it used on this node.
func (s *shim) exitOf(ws unix.WaitStatus) job.Exit {
	cpu, err := s.cfg.Cgroup.CPUTime()
	if err != nil {
		s.log.Warn("CPU time unknown", logkey.Err, err)
	}
	exit := job.Exit{Code: ws.ExitStatus(), At: time.Now(), CPU: time.Duration(cpu)}
	if ws.Signaled() {
		exit.Code, exit.Signal = 128+int(ws.Signal()), int(ws.Signal())
	}
	return exit
}
