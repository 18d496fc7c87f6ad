package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/failpoint"
)

const defaultGrace = 10 * time.Second

// Run says how CRIU is started for one request and who is told about it.
type Run struct {
	// Notify is called for every notification, with the pid of the job's
	// first process as the node sees it where CRIU tells it (setup-namespaces
	// and post-restore) and 0 elsewhere. An error refuses, and CRIU then fails
	// by itself: it lets go of the tasks of a dump (a cgroup that was frozen
	// before stays so) and kills those of a restore.
	// Nil accepts all.
	Notify func(ctx context.Context, name string, pid int) error
	// Files are inherited by CRIU; FD tells the numbers.
	Files       []*os.File
	SysProcAttr *syscall.SysProcAttr
	// Wrap is put before CRIU's command line: a program that prepares its own
	// surroundings and then executes the rest. It keeps the process and its files.
	Wrap []string
	Env  []string // nil: this process's
	Dir  string
	// LogFile is the log that the request makes CRIU write, to be quoted when
	// it fails; "" if there is none.
	LogFile string
	// Before is called on the thread that starts CRIU, which ends with CRIU: it may
	// enter namespaces for it. May be nil.
	Before func() error
	// Started is told the pid of CRIU before the request is sent, and after an error none
	// is. May be nil.
	Started func(pid int) error
	// Grace is how long CRIU may take to give up after ctx was cancelled;
	// 0 means 10 s.
	Grace time.Duration
}

// Do starts a CRIU, has it serve one request, and waits until it has ended.
// Every failure is an *Error.
//
// When ctx ends, the socket is closed for writing: CRIU sees that its client
// is gone at the next notification, undoes what it did and ends. One that does
// not within the grace is killed, unless it is dumping: then a *StuckError
// tells its pid, and it is reaped whenever it ends.
func (c *Client) Do(ctx context.Context, req *rpc.CriuReq, run Run) (*rpc.CriuResp, error) {
	return c.serve(ctx, req, run, c.surround(ctx))
}

func (c *Client) serve(ctx context.Context, req *rpc.CriuReq, run Run, s surroundings) (*rpc.CriuResp, error) {
	w, err := c.start(ctx, run, s)
	if err != nil {
		return nil, &Error{Op: operation(req.GetType()), Err: err}
	}
	return w.serve(ctx, req, run)
}

func (c *Client) start(ctx context.Context, run Run, s surroundings) (*worker, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c.startWorker(run, s)
}

func (w *worker) serve(ctx context.Context, req *rpc.CriuReq, run Run) (*rpc.CriuResp, error) {
	resp, err := w.ask(ctx, req, run)
	err = w.end(err, run, isDump(req.GetType()))
	if err == nil {
		return resp, nil
	}
	failed := &Error{Op: operation(req.GetType()), Err: err}
	if run.LogFile != "" {
		failed.Failure = Diagnose(run.LogFile)
	}
	return resp, failed
}

func (w *worker) ask(ctx context.Context, req *rpc.CriuReq, run Run) (*rpc.CriuResp, error) {
	if run.Started != nil {
		if err := run.Started(w.pid); err != nil {
			return nil, err
		}
	}
	return w.converse(ctx, withNotify(req), run)
}

// withNotify asks for notifications even if nobody wants them: they are where
// CRIU finds out that it is to give up.
func withNotify(req *rpc.CriuReq) *rpc.CriuReq {
	if req.GetOpts() == nil {
		return req
	}
	req = proto.Clone(req).(*rpc.CriuReq)
	req.Opts.NotifyScripts = proto.Bool(true)
	return req
}

// converse sends the request and answers notifications until the final reply.
func (w *worker) converse(ctx context.Context, req *rpc.CriuReq, run Run) (*rpc.CriuResp, error) {
	stop := context.AfterFunc(ctx, func() { w.hangUp(run) })
	defer stop()
	if err := w.send(req); err != nil {
		return nil, withCause(ctx, err)
	}
	var refused error
	for {
		resp, err := w.receive()
		if err != nil {
			return nil, errors.Join(refused, withCause(ctx, err))
		}
		if resp.GetType() != rpc.CriuReqType_NOTIFY {
			return resp, errors.Join(refused, withCause(ctx, verdict(req, resp)))
		}
		if err := w.notify(ctx, resp.GetNotify(), run); err != nil {
			refused = errors.Join(refused, err)
		}
	}
}

// notify answers one notification. What it calls is told by its context when CRIU
// dies meanwhile.
func (w *worker) notify(ctx context.Context, n *rpc.CriuNotify, run Run) error {
	alive, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-w.done:
			cancel(ErrVanished)
		case <-alive.Done():
		}
	})
	defer watch.Wait()
	defer cancel(nil)
	failpoint.Point("criu", n.GetScript())
	var err error
	if run.Notify != nil {
		err = run.Notify(alive, n.GetScript(), int(n.GetPid()))
	}
	if err == nil {
		err = context.Cause(ctx) // rather than that CRIU ends in peace before it is hung up on
	}
	answer := &rpc.CriuReq{Type: rpc.CriuReqType_NOTIFY.Enum(), NotifySuccess: proto.Bool(err == nil)}
	if err != nil {
		err = fmt.Errorf("refused at %s: %w", n.GetScript(), err)
	}
	return errors.Join(err, w.send(answer))
}

// hangUp tells CRIU that its client is gone, and stops waiting for it after
// the grace. The socket stays open for reading, so that what CRIU still sends
// does not fail.
func (w *worker) hangUp(run Run) {
	_ = w.conn.CloseWrite()
	_ = w.conn.SetReadDeadline(time.Now().Add(run.grace()))
}

// end waits for the process, frees what the worker holds, and returns err with
// what is known only now.
func (w *worker) end(err error, run Run, dump bool) error {
	w.hangUp(run)
	defer w.output.Close()
	defer w.conn.Close()
	grace := time.NewTimer(run.grace())
	defer grace.Stop()
	select {
	case <-w.done:
	case <-grace.C:
		if dump {
			return errors.Join(err, &StuckError{PID: w.pid, Grace: run.grace()})
		}
		_ = w.kill() // it may just have ended
		<-w.done
	}
	if !errors.Is(err, ErrVanished) {
		return errors.Join(err, w.after)
	}
	if said := strings.TrimSpace(w.said()); said != "" {
		return fmt.Errorf("%w (%v); it said: %s", err, w.exit, said)
	}
	return fmt.Errorf("%w (%v)", err, w.exit)
}

// withCause puts the reason why the context ended before what that led to.
func withCause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return errors.Join(context.Cause(ctx), err)
}

func (run Run) grace() time.Duration {
	if run.Grace > 0 {
		return run.Grace
	}
	return defaultGrace
}

// verdict turns the final reply into an error if it is one.
func verdict(req *rpc.CriuReq, resp *rpc.CriuResp) error {
	if resp.GetSuccess() && resp.GetType() == req.GetType() {
		return nil
	}
	if resp.GetSuccess() && req.GetType() == rpc.CriuReqType_PAGE_SERVER_CHLD {
		return nil
	}
	err := errors.New("CRIU could not do it")
	if n := resp.GetCrErrno(); n != 0 {
		err = syscall.Errno(n)
	}
	if msg := resp.GetCrErrmsg(); msg != "" && !harmless(msg) {
		err = fmt.Errorf("%w (%s)", err, strings.TrimSpace(msg))
	}
	return err
}

func operation(t rpc.CriuReqType) string {
	return strings.ReplaceAll(strings.ToLower(t.String()), "_", "-")
}

func isDump(t rpc.CriuReqType) bool {
	return t == rpc.CriuReqType_DUMP || t == rpc.CriuReqType_PRE_DUMP || t == rpc.CriuReqType_SINGLE_PRE_DUMP
}
