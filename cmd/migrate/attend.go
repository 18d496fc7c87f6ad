package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/migrate-hpc/migrate/agent/api"
)

// catchSignals catches what a foreground job gets from its user and scheduler.
// Window sizes are not among it: a job has no terminal.
func catchSignals() (signals <-chan os.Signal, release func()) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unlessIgnored(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT)...)
	return c, func() { signal.Stop(c) }
}

// attend follows a job in the foreground and returns its exit status as an error.
func (s *shell) attend(ctx context.Context, j api.Job, signals <-chan os.Signal, quiet bool) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var printing sync.Mutex // the follower and the forwarder both tell
	tell := func(line string) {
		printing.Lock()
		defer printing.Unlock()
		if !quiet {
			s.say(line)
		}
	}
	c := s.client()
	forwarding, endForwarding := context.WithCancel(ctx)
	var forwarder sync.WaitGroup
	forwarder.Go(func() {
		f := forward{agent: c, job: j, signals: signals, tell: tell, pause: pause{first: firstPause, most: mostPause}}
		if err := f.all(forwarding); err != nil {
			giveUp(err)
		}
	})
	to := s.carry(j.Spec.UID)
	ended, err := newFollower(c, j, outputs(j.Spec, *to), tell).follow(ctx)
	err = errors.Join(err, to.flush())
	endForwarding()
	forwarder.Wait()
	if err != nil {
		return err
	}
	s.sayReason(ended)
	return outcome(ended)
}

// sayReason tells why a job that is over was ended, if not by itself or its user.
func (s *shell) sayReason(j api.Job) {
	if j.Exit != nil && j.Exit.Reason != "" {
		s.say(fmt.Sprintf("job %s was ended: %s; see --output-limit and -o of `migrate run --help`", label(j), j.Exit.Reason))
	}
	if j.Superseded != nil {
		s.say(fmt.Sprintf("job %s was ended on %s: %s", label(j), j.Node, superseded(j)))
	}
}

// superseded says why a copy of a job was ended that was not the job.
func superseded(j api.Job) string {
	return fmt.Sprintf("it was brought back on %s, while %s was declared dead", j.Superseded.Node, j.Node)
}

// outcome is how a job ended as an error, nil for success.
func outcome(j api.Job) error {
	switch {
	case j.State == api.JobSaved:
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s does not run here any more: it was saved", label(j)),
			Where: "in " + j.SavedIn + ", or where it was restored from there", Hint: "`migrate restore " + j.SavedIn + "` brings it back, or tells where it is"}
	case j.State == api.JobLost || j.Exit == nil:
		return &api.Error{Code: api.CodeFailed,
			Message: fmt.Sprintf("job %s is lost: node %s restarted, or the job's shim was killed, under it", label(j), j.Node),
			Hint:    "migrate rm " + string(j.ID) + " frees what it left behind"}
	case status(j) == 0:
		return nil
	}
	return exitStatus(status(j))
}

// status is the exit status of a job that is over, as a shell would show it.
func status(j api.Job) int {
	if j.Exit.Signal != 0 {
		return 128 + j.Exit.Signal
	}
	return j.Exit.Code
}

// signalled is what passing a signal on asks of an agent.
type signalled interface {
	Signal(ctx context.Context, ref string, sig syscall.Signal) error
	Inspect(ctx context.Context, ref string) (api.Job, error)
}

// forward passes signals on to a job.
type forward struct {
	agent   signalled
	job     api.Job
	signals <-chan os.Signal
	tell    func(string)
	pause   pause
}

// all passes signals on until ctx ends. Its error says that the user wants out.
func (f *forward) all(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case sig := <-f.signals:
			if err := f.one(ctx, sig.(syscall.Signal)); err != nil {
				return err
			}
		}
	}
}

// one passes sig on, through an outage too, unless another signal comes.
func (f *forward) one(ctx context.Context, sig syscall.Signal) error {
	pause := f.pause
	for {
		err := f.agent.Signal(ctx, string(f.job.ID), sig)
		switch {
		case err == nil:
			f.warnIfUnheard(ctx, sig)
			return nil
		case ctx.Err() != nil:
			return nil
		case !outage(err):
			f.tell(fmt.Sprintf("%s was not passed on: %v", signalName(int(sig)), err))
			return nil
		}
		select {
		case <-f.signals:
			return &api.Error{Code: api.CodeCancelled, Message: fmt.Sprintf("%s was not passed on: %v", signalName(int(sig)), err),
				Where: "runs on", Hint: fmt.Sprintf("migrate logs -f %s, or migrate kill %s, once the agent answers", f.job.ID, f.job.ID)}
		default:
		}
		if pause.take(ctx, nil) != nil {
			return nil
		}
	}
}

func (f *forward) warnIfUnheard(ctx context.Context, sig syscall.Signal) {
	if j, err := f.agent.Inspect(ctx, string(f.job.ID)); err == nil && unheard(j, sig) {
		f.tell(unheardNote(j, sig))
	}
}

// unheard tells whether the kernel drops sig because the job's PID 1 has no
// handler for it. CONT wakes a stopped job even so.
func unheard(j api.Job, sig syscall.Signal) bool {
	if j.Caught == nil || sig == syscall.SIGKILL || sig == syscall.SIGSTOP || sig == syscall.SIGCONT {
		return false
	}
	return *j.Caught>>(uint(sig)-1)&1 == 0
}

func unheardNote(j api.Job, sig syscall.Signal) string {
	return fmt.Sprintf("the kernel drops %s, as PID 1 of job %s has no handler for it; `migrate kill -s KILL %s` ends the job, and one started with --init hears it",
		signalName(int(sig)), label(j), j.ID)
}
