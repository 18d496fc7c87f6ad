package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// runJob is called when the job runs.
func (s *shim) runJob(p *namespaces.Process) {
	s.mu.Lock()
	s.state, s.init = Running, p
	s.mu.Unlock()
	go s.output.watch(p)
	go s.reap(p)
}

// reap waits for the job's PID 1, and so for the job. The kernel ends every other task of a pid
// namespace before its PID 1 can be reaped.
func (s *shim) reap(p *namespaces.Process) {
	ws, err := p.Wait()
	if err != nil {
		s.log.Error("wait for the job", logkey.Err, err)
	}
	if s.currentState() != Released {
		s.recorder.record(s.output.end(s.exitOf(ws)), s.publishExit)
		s.setState(Exited)
		s.log.Info("job ended", logkey.Code, ws.ExitStatus(), logkey.Signaled, ws.Signaled())
	}
	if err := s.cleanUp(); err != nil {
		s.log.Error("clean-up", logkey.Err, err)
	}
	close(s.done)
}

// exitOf is how the job ended; its CPU time is what it used on this node.
func (s *shim) exitOf(ws unix.WaitStatus) job.Exit {
	cpu, err := s.cfg.Cgroup.CPUTime()
	if err != nil {
		s.log.Warn("CPU time unknown", logkey.Err, err)
	}
	exit := job.Exit{Code: ws.ExitStatus(), At: time.Now(), CPU: time.Duration(cpu)}
	if exit.OOMKills, err = s.cfg.Cgroup.OOMKills(); err != nil {
		s.log.Warn("kills for want of memory unknown", logkey.Err, err)
	}
	if ws.Signaled() {
		exit.Code, exit.Signal = 128+int(ws.Signal()), int(ws.Signal())
	}
	return exit
}

// publishExit has the status tell what is not in the record yet.
func (s *shim) publishExit(exit job.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.exit = Exited, &exit
}

// cleanUp frees what the job had on the node. What is missing already is no error.
func (s *shim) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTime)
	defer cancel()
	s.prestarted.close()
	err := s.cfg.Cgroup.Kill(ctx) // tasks that CRIU left behind, if any
	err = errors.Join(err, s.cfg.Cgroup.Remove())
	if s.cfg.LinkName != "" {
		err = errors.Join(err, network.RemoveLink(s.cfg.LinkName))
	}
	s.awaitFilling()
	if rmErr := os.RemoveAll(s.cfg.RunDir); rmErr != nil {
		err = errors.Join(err, fmt.Errorf("run directory: %w", rmErr))
	}
	return err
}

// awaitFilling waits for the fault server to end and to free its memory. A job that has ended
// needs no more pages, so this is soon. The wait is bounded all the same.
func (s *shim) awaitFilling() {
	freed := make(chan struct{})
	go func() {
		s.filling.Wait()
		close(freed)
	}()
	select {
	case <-freed:
	case <-time.After(cleanUpTime):
		s.log.Error("the fault server does not end")
	}
}

func (s *shim) finish() {
	if err := s.cleanUp(); err != nil {
		s.log.Error("clean-up", logkey.Err, err)
	}
	close(s.done)
}

const cleanUpTime = 30 * time.Second
