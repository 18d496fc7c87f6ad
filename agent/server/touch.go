package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
)

func (a *jobServer) handleSignal(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return &api.Error{Code: api.CodeUsage, Message: "the request did not arrive: " + err.Error()}
	}
	var req api.SignalRequest
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err := httpjson.Decode(r, &req); err != nil {
		return err
	}
	if req.Signal < 1 || req.Signal > 64 {
		return noSignal(req.Signal)
	}
	if err := a.MaySignal(rec); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body)) // for the node that the job moves to
	return a.whenRunning(func(_ http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
		err := a.signal(r.Context(), rec, syscall.Signal(req.Signal))
		if errors.Is(err, shim.ErrGone) {
			return a.signalLost(r.Context(), rec, syscall.Signal(req.Signal))
		}
		return err
	}, true)(w, r, c, rec)
}

func noSignal(n int) error {
	return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("there is no signal %d", n)}
}

// signal waits no longer than passTime for the shim. It fails with shim.ErrGone if the job
// is over.
func (a *jobServer) signal(ctx context.Context, rec job.Record, sig syscall.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, node.PassTime)
	defer cancel()
	if asleep := a.Sources.Awake(rec); asleep != nil {
		if _, err := a.Status(ctx, rec.ID); errors.Is(err, context.DeadlineExceeded) { // its shim is suspended, too
			if sig == syscall.SIGKILL {
				return (&cgroup.Cgroup{Dirs: rec.Cgroup}).SendKill()
			}
			return asleep
		}
	}
	err := a.ShimOf(rec.ID).Signal(ctx, sig)
	if err == nil && sig == syscall.SIGKILL {
		if err := a.EndSuspended(ctx, rec); err != nil {
			a.Log.Info("a job that was killed ends later", logkey.Job, rec.ID, logkey.Err, err)
		}
	}
	switch {
	case err == nil || errors.Is(err, shim.ErrGone):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("the shim of job %s has not answered within %v; nobody knows whether the signal was sent", rec.ID, node.PassTime),
			Where: "on " + a.Config.Node, Hint: "the same command again"}
	}
	if st, asked := a.ShimOf(rec.ID).Status(ctx); errors.Is(asked, shim.ErrGone) || asked == nil && st.State == shim.Exited {
		return shim.ErrGone // about to be: it writes down how the job ended
	}
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("the signal was not sent: %v", err), Where: "on " + a.Config.Node,
		Hint: "`migrate inspect " + string(rec.ID) + "` tells how the job stands; the same command again when it runs"}
}

// cannotEnter says why no command can be run in a job now.
func cannotEnter(v api.Job) error {
	e := &api.Error{Code: api.CodeFailed, Where: fmt.Sprintf("on %s, %s", v.Node, v.State)}
	switch v.State {
	case api.JobExited, api.JobLost, api.JobAstray, api.JobSaved, api.JobMoved:
		return node.Ended(v)
	case api.JobSuspended:
		return node.Suspended(v.ID, v.Node, &checkpoint.Suspended{Cgroup: v.SuspendedIn})
	case api.JobFrozen:
		e.Message = fmt.Sprintf("job %s is frozen for a move; nothing was done", v.ID)
		e.Hint = "the same command again when it has moved; `migrate moves` tells what it waits for"
	case api.JobArriving:
		e.Message = fmt.Sprintf("job %s does not run here yet; nothing was done", v.ID)
		e.Hint = "the same command again when `migrate inspect " + string(v.ID) + "` says that it runs"
	default:
		if v.Init != 0 {
			return nil
		}
		e.Message = fmt.Sprintf("the shim of job %s does not answer; nothing was done", v.ID)
		e.Hint = "the same command again"
	}
	return e
}

// handleExec runs a command inside the job for its owner.
func (a *jobServer) handleExec(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
	groups, err := c.GroupsIn(rec)
	if err != nil {
		return err
	}
	leave, ok := a.visits.Take(c, 1)
	if !ok {
		return caller.Busy("as many commands of `migrate exec` run on %s as one user, or all, may have (%d, %d)", a.Config.Node, userVisits, allVisits)
	}
	defer leave()
	v := a.View(r.Context(), rec)
	if err := cannotEnter(v); err != nil {
		return err
	}
	return api.ServeExec(w, r, func(ctx context.Context, req api.ExecRequest, in io.Reader, out, errOut io.Writer) (int, error) {
		if len(req.Args) == 0 {
			return 0, errors.New("no command was named")
		}
		env := req.Env
		if len(env) == 0 {
			env = rec.Spec.Env
		}
		code, err := namespaces.Exec(ctx, namespaces.ExecSpec{
			Init: v.Init, Args: req.Args, Env: env, WorkDir: cmp.Or(req.WorkDir, rec.Spec.WorkDir),
			UID: rec.Spec.UID, GID: rec.Spec.GID, Groups: groups, Cgroup: rec.Cgroup, UserNS: rec.Spec.UserNS, Keyring: string(rec.ID),
			Stdin: in, Stdout: out, Stderr: errOut,
		})
		if errors.Is(err, namespaces.ErrNotStarted) {
			err = &api.Error{Code: api.CodeFailed, Message: err.Error(), Where: "`migrate inspect " + string(rec.ID) + "` tells; a move may have taken it from " + a.Config.Node, Hint: "the same command again"}
		}
		return code, err
	})
}

// handleRemove forgets a job that is over, and everything that it left here.
func (a *jobServer) handleRemove(w http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
	force := r.URL.Query().Get("force") == "true"
	v := a.View(r.Context(), rec)
	if v.State == api.JobAstray {
		if !force {
			return node.Astray(v)
		}
		if err := a.mayEnd(rec); err != nil {
			return err
		}
	}
	if v.State == api.JobRunning || v.State == api.JobFrozen || v.State == api.JobSuspended || v.State == api.JobArriving {
		if !force {
			return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is %s", rec.ID, v.State), Where: "on " + a.Config.Node,
				Hint: fmt.Sprintf("end it with `migrate kill %s`, or do both with `migrate rm -f %s`", rec.ID, rec.ID)}
		}
		if err := a.end(r.Context(), rec); err != nil {
			return err
		}
	}
	if v.State == api.JobLost || v.State == api.JobAstray {
		if err := a.Sweep(r.Context(), rec); err != nil {
			return err
		}
	}
	leaving, cancel := context.WithTimeout(r.Context(), shimTime)
	defer cancel()
	if st, err := a.ShimOf(rec.ID).Status(leaving); err == nil && (st.State == shim.Exited || st.State == shim.Running) {
		node.AwaitProcess(leaving, st.Shim, shimTime)
	}
	if err := a.Launcher.SealOutput(rec.ID); err != nil {
		return err
	}
	if err := a.Jobs.Remove(rec.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// shimTime is how long the shim of a job that is over may take to leave.
const shimTime = 10 * time.Second

// mayEnd refuses to end a copy of which nobody can tell whether it is the job.
func (a *jobServer) mayEnd(rec job.Record) error {
	if a.Moving(rec.ID) || a.Unfinished(rec.ID) != "" {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is in a move that is not finished; nothing was done", rec.ID),
			Where: "on " + a.Config.Node + ", or on the other node of the move", Hint: "cancel the move or wait for its end; `migrate moves` tells what it waits for"}
	}
	return a.MaySignal(rec)
}

// end kills a job and waits until its shim has written that down.
func (a *jobServer) end(ctx context.Context, rec job.Record) error {
	if err := a.mayEnd(rec); err != nil {
		return err
	}
	err := a.signal(ctx, rec, syscall.SIGKILL)
	if err != nil && !errors.Is(err, shim.ErrGone) {
		return err
	}
	if err := a.EndSuspended(ctx, rec); err != nil {
		return err
	}
	if err := a.untilOver(ctx, rec.ID, endTime); err != nil {
		return err
	}
	if a.stillRuns(ctx, rec.ID) {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s has not ended within %v of SIGKILL; a task of it may wait for a file server that does not answer", rec.ID, endTime),
			Where: "on " + a.Config.Node, Hint: "the same command again, when it has"}
	}
	return nil
}

// stillRuns tells whether a job has not ended. Its shim writes down the end first, and says
// so of itself afterwards.
func (a *jobServer) stillRuns(ctx context.Context, id job.ID) bool {
	st, err := a.Status(ctx, id)
	if err != nil || st.State != shim.Running {
		return false
	}
	rec, err := a.Jobs.Get(id)
	return err != nil || rec.Here()
}

// endTime is how long a job that is killed may take to end.
const endTime = 30 * time.Second
