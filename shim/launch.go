package shim

import (
	"context"
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
)

// stuckTime is how long a start that is given up may take to end. One that is stuck in
// a system call of the shim itself does not.
const stuckTime = 5 * time.Second

// launch starts the job. A path on the way may be on a file server that does not answer. So the
// start is given up when its time is over.
func (s *shim) launch() error {
	l := s.cfg.Launch
	why := fmt.Errorf("its command did not run within %v; a file system that it needs may not answer", l.Within)
	ctx, cancel := context.WithTimeoutCause(context.Background(), l.Within, why)
	defer cancel()
	started := make(chan error, 1)
	var p *namespaces.Process
	go func() {
		var err error
		p, err = namespaces.Start(ctx, l.Namespaces, s.startEnv())
		started <- err
	}()
	select {
	case err := <-started:
		if err != nil {
			return err
		}
	case <-time.After(l.Within + stuckTime):
		return why
	}
	s.log.Info("job started", logkey.PID, p.Pid)
	s.runJob(p)
	return nil
}

func (s *shim) startEnv() namespaces.StartEnv {
	around := namespaces.StartEnv{Cgroup: &s.cfg.Cgroup}
	if i := s.cfg.Launch.Interface; i != nil {
		around.Network = func(pid int) error {
			if err := i.Attach(pid); err != nil {
				return err
			}
			return i.Connect(pid)
		}
	}
	return around
}
