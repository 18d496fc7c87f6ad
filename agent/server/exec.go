package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
)

// execRefusal is the error if no command can run in a job now.
func execRefusal(v api.Job) error {
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
func (s *jobServer) handleExec(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error {
	groups, err := c.JobGroups(rec)
	if err != nil {
		return err
	}
	leave, ok := s.execs.Take(c, 1)
	if !ok {
		return caller.Busy("as many commands of `migrate exec` run on %s as one user, or all, may have (%d, %d)", s.Config.Node, userExecs, allExecs)
	}
	defer leave()
	v := s.View(r.Context(), rec)
	if err := execRefusal(v); err != nil {
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
			err = &api.Error{Code: api.CodeFailed, Message: err.Error(), Where: "`migrate inspect " + string(rec.ID) + "` tells; a move may have taken it from " + s.Config.Node, Hint: "the same command again"}
		}
		return code, err
	})
}
