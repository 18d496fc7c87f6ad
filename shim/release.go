package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/failpoint"
)

func (s *shim) signal(r *http.Request) error {
	var req signalRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != Running {
		return fmt.Errorf("the job is %s", s.state)
	}
	return s.init.Signal(unix.Signal(req.Signal))
}

// release ends the frozen tree of a job that lives on elsewhere. No exit is
// written down: it has not exited.
func (s *shim) release(r *http.Request) error {
	s.stateChange.Lock()
	defer s.stateChange.Unlock()
	switch now := s.currentState(); now {
	case Released:
		return nil
	case Running:
	default:
		return fmt.Errorf("cannot release: the job is %s", now)
	}
	frozen, err := s.cfg.Cgroup.Frozen()
	if err != nil {
		return err
	}
	if !frozen {
		return errors.New("refused to release a job that is not frozen")
	}
	s.setState(Released)
	failpoint.Point("shim", "released")
	s.log.Info("job released")
	// A user who may write to another cgroup can move tasks out of the frozen one, and they
	// run there. All tasks of a pid namespace end with its PID 1.
	if err := s.init.Signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return s.cfg.Cgroup.Kill(context.WithoutCancel(r.Context()))
}
