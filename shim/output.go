package shim

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/procfs"
)

// endTime is how long a job that handles SIGXFSZ has to end.
const endTime = 10 * time.Second

// watchOutput checks the size of the job's output until the job has ended. It ends a job that
// prints too much, and cuts off what exceeds the limit. A frozen job prints nothing and is not
// ended: it may run elsewhere by now. But its user may write to its files from outside while it is
// suspended.
func (s *shim) watchOutput(init *namespaces.Process) {
	if s.output == nil {
		return
	}
	var end time.Time // when it is killed
	for pause := time.Duration(0); ; {
		select {
		case <-s.output.over:
			return
		case <-time.After(pause):
		}
		pause = frozenPause
		if frozen, err := s.cfg.Cgroup.Frozen(); err == nil && frozen {
			if _, _, err := s.output.check(); err != nil {
				s.log.Error("the job's output", logkey.Err, err)
			}
			continue
		}
		var why string
		var err error
		if why, pause, err = s.output.check(); err != nil {
			s.log.Error("the job's output", logkey.Err, err)
		}
		switch {
		case why == "":
		case end.IsZero():
			s.log.Warn("the job is ended", logkey.Why, why)
			end = s.askToEnd(init)
		case !time.Now().Before(end):
			s.killFor(init)
		}
	}
}

// frozenPause is between two checks of a frozen job.
const frozenPause = 100 * time.Millisecond

// askToEnd sends SIGXFSZ to a PID 1 that handles it. The kernel does so when a file gets too
// large. It returns when the job's time is over.
func (s *shim) askToEnd(init *namespaces.Process) time.Time {
	if !handlesSignal(init.Pid, unix.SIGXFSZ) || init.Signal(unix.SIGXFSZ) != nil {
		return time.Now()
	}
	return time.Now().Add(endTime)
}

// killFor kills the job.
func (s *shim) killFor(init *namespaces.Process) {
	if err := init.Signal(unix.SIGKILL); err != nil {
		s.log.Warn("end the job", logkey.Err, err)
	}
}

// handlesSignal tells whether a process handles a signal or waits for it. The pid may have been
// reused; the answer is wrong then, and does no harm.
func handlesSignal(pid int, sig unix.Signal) bool {
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return false
	}
	mask, err := status.Handled()
	return err == nil && mask>>(uint(sig)-1)&1 == 1
}

// endOutput checks the output once more when the job has ended. It adds to the exit why the job
// was ended.
func (s *shim) endOutput(exit job.Exit) job.Exit {
	if s.output == nil {
		return exit
	}
	close(s.output.over)
	why, _, err := s.output.check()
	if err != nil {
		s.log.Error("the job's output", logkey.Err, err)
	}
	exit.Reason = why
	if why != "" && (exit.Signal == int(unix.SIGKILL) || exit.Code == 0) {
		// As the kernel's own limit would have ended it. Success it was not: output is missing.
		exit.Signal, exit.Code = int(unix.SIGXFSZ), 128+int(unix.SIGXFSZ)
	}
	return exit
}
