package shim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/failpoint"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/restore"
)

func (s *shim) park(r *http.Request) error {
	var req ParkRequest
	if err := exactjson.NewDecoder(r.Body).Decode(&req); err != nil {
		return err
	}
	s.stateChange.Lock()
	defer s.stateChange.Unlock()
	if now := s.currentState(); now != Waiting {
		return fmt.Errorf("cannot park: the shim is %s", now)
	}
	ahead, err := s.prestarted.use(s.cfg.RunDir)
	if err != nil {
		return err
	}
	g := ahead.guard
	req.Plan.Prestarted, req.Plan.Follower = ahead.criu, ahead.store
	client := s.criuClient()
	p, err := restore.Open(r.Context(), req.Plan, g)
	if err != nil {
		ahead.criu.Close()
		return errors.Join(err, g.dismiss())
	}
	s.memory.open(p.Memory())
	if err := p.Park(r.Context(), client, s.log); err != nil {
		s.memory.close()
		return errors.Join(err, g.dismiss())
	}
	s.mu.Lock()
	s.parked, s.guard, s.state, s.volatile = p, g, Parked, req.Volatile
	s.mu.Unlock()
	go s.watchCRIU(p)
	failpoint.Point("shim", "parked")
	return nil
}

// watchCRIU drops a parked job whose CRIU has ended, whatever the cause. Its tasks wait for an
// answer that cannot come any more.
func (s *shim) watchCRIU(p *restore.Parked) {
	<-p.Ended()
	s.stateChange.Lock()
	defer s.stateChange.Unlock()
	if s.currentState() == Parked {
		s.log.Error("CRIU ended while the job was parked; the job is dropped")
		s.dropParked()
	}
}

// dropParked ends the shim of a parked job that will not run here.
func (s *shim) dropParked() {
	if err := errors.Join(s.parked.Drop(), s.guard.dismiss()); err != nil {
		s.log.Warn("drop", logkey.Err, err)
	}
	s.setState(Dropped)
	go s.finish()
}

// resume lets a parked job run. Asking twice is asking once.
func (s *shim) resume(*http.Request) error {
	s.stateChange.Lock()
	defer s.stateChange.Unlock()
	switch now := s.currentState(); now {
	case Running, Exited:
		return nil
	case Parked:
	default:
		return fmt.Errorf("cannot resume: the shim is %s", now)
	}
	// From here on the answer that the job never ran here is no longer possible.
	mark := filepath.Join(s.cfg.RunDir, resumedName)
	//house:allow os.WriteFile: a note for this boot, in a tmpfs
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	p, err := s.parked.Resume()
	if err != nil && s.parked.MayHaveRun() {
		s.log.Error("CRIU failed while it let the job go; the job is ended", logkey.Err, err)
		err = errors.Join(s.parked.Drop(), s.guard.dismiss())
		s.runJob(p)
		return err
	}
	if err != nil {
		err = errors.Join(err, os.Remove(mark))
		s.dropParked()
		return err
	}
	failpoint.Point("shim", "resumed")
	s.log.Info("job resumed", logkey.PID, p.Pid)
	s.filling.Go(func() { s.awaitMemoryFilled(s.parked, s.volatile) })
	if !s.parked.Waits() {
		s.runJob(p)
		return nil
	}
	s.mu.Lock()
	s.state, s.init, s.waits = Running, p, true
	s.mu.Unlock()
	go s.letRun(s.parked, p)
	return nil
}

// letRun has a job run that waits, frozen, for what the copy on the source had. Nobody else waits for
// its PID 1 meanwhile: to this process its stops look like its end.
func (s *shim) letRun(p *restore.Parked, init *namespaces.Process) {
	s.log.Info("the job waits, frozen, for exclusive locks on files that its other copy or another process has")
	err := p.LetRun(context.Background()) // until the job has ended
	if err == nil {
		s.log.Info("the job has its locks, and runs")
	} else {
		s.log.Error("the job does not get back what it had locked; it is ended", logkey.Err, err)
		go s.kill()
	}
	s.mu.Lock()
	s.waits = false
	s.mu.Unlock()
	s.runJob(init)
}

// kill ends the job. It returns when the job has been waited for.
func (s *shim) kill() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTime)
	defer cancel()
	if err := s.cfg.Cgroup.Kill(ctx); err != nil {
		s.log.Error("end the job", logkey.Err, err)
	}
}

// awaitMemoryFilled waits until all memory is in place. It ends a job whose memory cannot be
// completed: a wrong result would be worse.
func (s *shim) awaitMemoryFilled(p *restore.Parked, volatile string) {
	err := p.Filled()
	if err != nil {
		s.log.Error("the job's memory cannot be completed; it is ended", logkey.Err, err)
		ctx, cancel := context.WithTimeout(context.Background(), cleanUpTime)
		defer cancel()
		err = s.cfg.Cgroup.Kill(ctx)
	} else {
		s.log.Info("memory in place")
	}
	if err := errors.Join(err, p.Close(), s.guard.dismiss(), os.RemoveAll(volatile)); err != nil {
		s.log.Error("end of the restore", logkey.Err, err)
	}
}

// drop gives up a job that has not run here.
func (s *shim) drop(*http.Request) error {
	s.stateChange.Lock()
	defer s.stateChange.Unlock()
	switch now := s.currentState(); now {
	case Dropped:
		return nil
	case Parked:
		s.dropParked()
	case Waiting:
		s.setState(Dropped)
		go s.finish()
	default:
		return fmt.Errorf("cannot drop: the job is %s", now)
	}
	return nil
}
