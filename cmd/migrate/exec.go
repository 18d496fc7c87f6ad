package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newExecCommand(c *cli) *cobra.Command {
	var workDir string
	var env []string
	cmd := &cobra.Command{
		Use:   "exec [flags] JOB [--] CMD [ARG...]",
		Short: "Run a command inside of a job",
		Long: `Runs CMD in the namespaces of a job, on whichever node it is, with the job's user and
environment. It passes stdin, stdout and stderr through, without a terminal, and returns
the exit status of CMD. CMD ends with this command, and does not move with the job.`,
		Example: `  migrate exec sim ps -ef
  migrate exec sim sh -c 'cat > input' < input`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(execArgs(args)) == 0 {
				return usage(cmd, fmt.Errorf("exec takes a job and the command to run in it"))
			}
			return nil
		},
		RunE: interruptible(func(ctx context.Context, args []string) error {
			return c.exec(ctx, args[0], api.ExecRequest{Args: execArgs(args), Env: env, WorkDir: workDir})
		}),
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVarP(&workDir, "workdir", "w", "", "working `DIR` in the job (default: the job's own)")
	cmd.Flags().StringArrayVar(&env, "env", nil, "set `KEY=VALUE` over the job's environment")
	return cmd
}

// execArgs is the command behind the job and the optional --.
func execArgs(args []string) []string {
	rest := args[min(1, len(args)):]
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	return rest
}

func (c *cli) exec(ctx context.Context, ref string, req api.ExecRequest) error {
	agent := c.client()
	inspect := sync.OnceValues(func() (api.Job, error) { return agent.Inspect(ctx, ref) })
	if len(req.Env) > 0 {
		j, err := inspect()
		if err != nil {
			return err
		}
		if req.Env, err = mergeEnv(c.environ, j.Spec.Env, req.Env); err != nil {
			return &api.Error{Code: api.CodeUsage, Message: "--env: " + err.Error(), Hint: "migrate exec --help"}
		}
	}
	uid, err := c.ownerOf(inspect)
	if err != nil {
		return err
	}
	to := c.jobOutput(uid)
	code, err := agent.Exec(ctx, ref, req, c.in, to.out, to.err)
	if err = errors.Join(err, to.flush()); err == nil && code != 0 {
		return exitStatus(code)
	}
	return err
}
