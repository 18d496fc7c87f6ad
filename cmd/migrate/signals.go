package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/migrate-hpc/migrate/agent/api"
)

// catchSignals catches the signals that users and schedulers send to a foreground job.
// SIGWINCH is not one of them: a job has no terminal.
func catchSignals() (signals <-chan os.Signal, release func()) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, notIgnored(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT)...)
	return c, func() { signal.Stop(c) }
}

// signalAPI is what a signalForwarder asks of an agent.
type signalAPI interface {
	Signal(ctx context.Context, ref string, sig syscall.Signal) error
	Inspect(ctx context.Context, ref string) (api.Job, error)
}

// signalForwarder passes signals on to a job.
type signalForwarder struct {
	agent   signalAPI
	job     api.Job
	signals <-chan os.Signal
	notify  func(string)
	backoff backoff
}

// run passes signals on until ctx ends. Its error ends the command: the user sent a second
// signal while the agent did not answer.
func (f *signalForwarder) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case sig := <-f.signals:
			if err := f.forward(ctx, sig.(syscall.Signal)); err != nil {
				return err
			}
		}
	}
}

// forward sends sig until the agent answers or another signal comes.
func (f *signalForwarder) forward(ctx context.Context, sig syscall.Signal) error {
	backoff := f.backoff
	for {
		err := f.agent.Signal(ctx, string(f.job.ID), sig)
		switch {
		case err == nil:
			f.warnIfDropped(ctx, sig)
			return nil
		case ctx.Err() != nil:
			return nil
		case !retryable(err):
			f.notify(fmt.Sprintf("%s was not passed on: %v", signalName(int(sig)), err))
			return nil
		}
		select {
		case <-f.signals:
			return &api.Error{Code: api.CodeCancelled, Message: fmt.Sprintf("%s was not passed on: %v", signalName(int(sig)), err),
				Where: "runs on", Hint: fmt.Sprintf("migrate logs -f %s, or migrate kill %s, once the agent answers", f.job.ID, f.job.ID)}
		default:
		}
		if backoff.wait(ctx, nil) != nil {
			return nil
		}
	}
}

func (f *signalForwarder) warnIfDropped(ctx context.Context, sig syscall.Signal) {
	if j, err := f.agent.Inspect(ctx, string(f.job.ID)); err == nil && dropsSignal(j, sig) {
		f.notify(droppedNotice(j, sig))
	}
}

// dropsSignal tells whether the kernel drops sig because the job's PID 1 has no
// handler for it. CONT continues a stopped job without one.
func dropsSignal(j api.Job, sig syscall.Signal) bool {
	if j.Caught == nil || sig == syscall.SIGKILL || sig == syscall.SIGSTOP || sig == syscall.SIGCONT {
		return false
	}
	return *j.Caught>>(uint(sig)-1)&1 == 0
}

func droppedNotice(j api.Job, sig syscall.Signal) string {
	return fmt.Sprintf("the kernel drops %s, as PID 1 of job %s has no handler for it; `migrate kill -s KILL %s` ends the job, and one started with --init hears it",
		signalName(int(sig)), label(j), j.ID)
}
