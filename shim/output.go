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

// watch checks the size of the job's output until the job has ended. It ends a job that
// prints too much, and cuts off what exceeds the limit. A frozen job prints nothing and is not
// ended: it may run elsewhere by now. But its user may write to its files from outside while it is
// suspended.
func (w *outputLimiter) watch(init *namespaces.Process) {
	if w == nil {
		return
	}
	var end time.Time // when it is killed
	for pause := time.Duration(0); ; {
		select {
		case <-w.over:
			return
		case <-time.After(pause):
		}
		pause = frozenPause
		if frozen, err := w.cgroup.Frozen(); err == nil && frozen {
			if _, _, err := w.check(); err != nil {
				w.log.Error("the job's output", logkey.Err, err)
			}
			continue
		}
		var why string
		var err error
		if why, pause, err = w.check(); err != nil {
			w.log.Error("the job's output", logkey.Err, err)
		}
		switch {
		case why == "":
		case end.IsZero():
			w.log.Warn("the job is ended", logkey.Why, why)
			end = askToEnd(init)
		case !time.Now().Before(end):
			w.kill(init)
		}
	}
}

// frozenPause is between two checks of a frozen job.
const frozenPause = 100 * time.Millisecond

// askToEnd sends SIGXFSZ to a PID 1 that handles it. The kernel does so when a file gets too
// large. It returns when the job's time is over.
func askToEnd(init *namespaces.Process) time.Time {
	if !handlesSignal(init.Pid, unix.SIGXFSZ) || init.Signal(unix.SIGXFSZ) != nil {
		return time.Now()
	}
	return time.Now().Add(endTime)
}

// kill kills the job.
func (w *outputLimiter) kill(init *namespaces.Process) {
	if err := init.Signal(unix.SIGKILL); err != nil {
		w.log.Warn("end the job", logkey.Err, err)
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

// end checks the output once more when the job has ended. It adds to the exit why the job
// was ended.
func (w *outputLimiter) end(exit job.Exit) job.Exit {
	if w == nil {
		return exit
	}
	close(w.over)
	why, _, err := w.check()
	if err != nil {
		w.log.Error("the job's output", logkey.Err, err)
	}
	exit.Reason = why
	if why != "" && (exit.Signal == int(unix.SIGKILL) || exit.Code == 0) {
		// As the kernel's own limit would have ended it. Success it was not: output is missing.
		exit.Signal, exit.Code = int(unix.SIGXFSZ), 128+int(unix.SIGXFSZ)
	}
	return exit
}
