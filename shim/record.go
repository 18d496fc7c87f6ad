package shim

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
)

const cleanUpTime = 30 * time.Second

// record writes down how the job ended, durably, before anybody can ask.
func (s *shim) record(ws unix.WaitStatus) error {
	now := time.Now()
	cpu, err := s.cfg.Cgroup.CPUTime()
	if err != nil {
		s.log.Warn("CPU time unknown", "err", err)
	}
	exit := &job.Exit{Code: ws.ExitStatus(), At: now}
	if ws.Signaled() {
		exit.Code, exit.Signal = 128+int(ws.Signal()), int(ws.Signal())
	}
	_, err = s.store.Update(s.cfg.Job, func(r *job.Record) error {
		exit.CPU = r.CPUBefore + time.Duration(cpu)
		r.Exit = exit
		if n := len(r.Stays); n > 0 {
			r.Stays[n-1].To = now
		}
		return nil
	})
	return err
}
