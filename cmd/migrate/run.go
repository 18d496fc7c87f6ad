package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// runOptions are the flags of run as they were typed.
type runOptions struct {
	name, hostname, workDir string
	input, output, errors   string
	env, envFiles           []string
	binds, ulimits          []string
	root, memory, cpus      string
	outputLimit             string
	pids                    int64
	network                 job.Network
	userNS, init            bool
	detach, quiet           bool
}

func newRunCommand(c *cli) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] -- CMD [ARG...]",
		Short: "Start a job",
		Long: `Starts CMD as a job in namespaces of its own, as the calling user, with the
caller's environment and working directory.

Without --detach, run stays with the job through moves. It prints the job's output, passes
INT, TERM, HUP, QUIT, USR1, USR2 and CONT on to it, and ends with its exit status, 128+N
if signal N ended it. While an agent does not answer, a second signal ends run, not the
job. CMD is PID 1 of the job: as in any container, the kernel drops a signal for which it
has no handler. --init makes PID 1 a small init that starts CMD.

The job reads stdin from a file: that of -i, or the one that stdin of a run without --detach
is (run -- CMD < FILE). Data in a pipe is refused, since a job outlives it.`,
		Example: `  migrate run -- ./solve -n 8
  migrate run --name sim --memory 2G --cpus 1.5 -o sim.out -- ./solve
  migrate run -d --net br0 --address 10.0.0.7/24 -- ./server`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, fmt.Errorf("run takes the command to run"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := o.request(c, args)
			if err != nil {
				return usage(cmd, err)
			}
			if err := req.Spec.Validate(); err != nil {
				return invalidSpec(err)
			}
			if o.detach {
				return interruptible(func(ctx context.Context, _ []string) error { return c.runDetached(ctx, req) })(cmd, args)
			}
			return c.runAttached(cmd.Context(), req, o.quiet)
		},
	}
	o.flags(cmd)
	return cmd
}

func (o *runOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SetInterspersed(false) // flags behind CMD are CMD's
	f.SortFlags = false
	f.StringVar(&o.name, "name", "", "`NAME` to call the job by")
	f.BoolVarP(&o.detach, "detach", "d", false, "print the job's id and do not stay with it")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not tell of moves and outages")
	f.StringVarP(&o.input, "input", "i", "", "read stdin from `FILE` (default /dev/null)")
	f.StringVarP(&o.output, "output", "o", "", "append stdout, and stderr without -e, to `FILE`")
	f.StringVarP(&o.errors, "error", "e", "", "append stderr to `FILE`")
	f.StringVarP(&o.workDir, "workdir", "w", "", "working `DIR` in the job (default: the current one, or / with --root)")
	f.StringArrayVar(&o.env, "env", nil, "set `KEY=VALUE`, or KEY as it is here; may be given more than once")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "set what `FILE` says, one KEY=VALUE per line")
	f.StringVar(&o.root, "root", "", "use the tree in `DIR` as root (default: the node's own)")
	f.StringArrayVar(&o.binds, "bind", nil, "show `SRC[:DST[:ro]]` of the node in the job")
	f.StringVar(&o.memory, "memory", "", "memory limit `SIZE`, such as 512M or 2G")
	f.StringVar(&o.cpus, "cpus", "", "limit to `N` CPUs, such as 1.5")
	f.Int64Var(&o.pids, "pids-limit", 0, "limit to `N` processes and threads")
	f.StringVar(&o.outputLimit, "output-limit", "", "end the job when it has printed more than `SIZE` into its own log (default 1G)")
	f.StringArrayVar(&o.ulimits, "ulimit", nil, "resource limit `NAME=SOFT[:HARD]`, such as nofile=4096")
	f.StringVar(&o.network.Mode, "net", job.NetworkNone, "none for loopback only, or the name of a `BRIDGE` of the node")
	f.StringVar(&o.network.Address, "address", "", "address `IP/LEN` of the job on the bridge, such as 10.0.0.7/24")
	f.StringVar(&o.network.Gateway, "gateway", "", "`IP` of the default gateway")
	f.StringVar(&o.network.MAC, "mac", "", "hardware `ADDRESS` (default: made up)")
	f.StringVar(&o.hostname, "hostname", "", "host `NAME` in the job (default: the job's id)")
	f.BoolVar(&o.userNS, "user-ns", false, "give the job a user namespace")
	f.BoolVar(&o.init, "init", false, "make PID 1 a small init that passes signals on and reaps")
}

// request is what the flags ask for. Its paths are absolute, since the agent has another
// working directory.
func (o *runOptions) request(c *cli, args []string) (req api.RunRequest, err error) {
	cwd, err := c.getwd()
	if err != nil {
		return req, err
	}
	if err := o.checkHabits(cwd, c.environ); err != nil {
		return req, err
	}
	if err := o.takeStdin(c); err != nil {
		return req, err
	}
	spec := job.Spec{
		Name: o.name, Hostname: o.hostname, Args: args, Root: absolute(cwd, o.root),
		Stdin: absolute(cwd, o.input), Stdout: absolute(cwd, o.output), Stderr: absolute(cwd, o.errors),
		WorkDir: absolute(cwd, o.workDir), Network: o.network, UserNS: o.userNS, Init: o.init,
	}
	if spec.WorkDir == "" && spec.Root == "" {
		spec.WorkDir = cwd
	}
	if spec.Stderr == "" { // as srun does
		spec.Stderr = spec.Stdout
	}
	if spec.Env, err = environment(c.environ, o.envFiles, o.env); err != nil {
		return req, err
	}
	if err := o.limits(cwd, &spec); err != nil {
		return req, err
	}
	return api.RunRequest{Spec: spec, Foreground: !o.detach}, nil
}

func (o *runOptions) limits(cwd string, spec *job.Spec) (err error) {
	spec.Limits.Pids = o.pids
	if spec.Limits.MemoryBytes, err = parseSize(o.memory); err != nil {
		return fmt.Errorf("--memory: %w", err)
	}
	if spec.OutputLimit, err = parseSize(o.outputLimit); err != nil {
		return fmt.Errorf("--output-limit: %w", err)
	}
	if spec.Limits.CPUMilli, err = parseCPUs(o.cpus); err != nil {
		return fmt.Errorf("--cpus: %w", err)
	}
	for _, u := range o.ulimits {
		l, err := parseUlimit(u)
		if err != nil {
			return err
		}
		spec.Rlimits = append(spec.Rlimits, l)
	}
	for _, b := range o.binds {
		bind, err := parseBind(cwd, b)
		if err != nil {
			return err
		}
		spec.Binds = append(spec.Binds, bind)
	}
	return nil
}

func (c *cli) runDetached(ctx context.Context, req api.RunRequest) error {
	j, err := c.client().Run(ctx, req)
	if err != nil {
		return err
	}
	c.warnOfObstacles(j)
	return printLine(c.out, "%s", j.ID)
}

// runAttached catches signals before it starts the job, so that none is lost in between.
func (c *cli) runAttached(ctx context.Context, req api.RunRequest, quiet bool) error {
	signals, release := catchSignals()
	defer release()
	j, err := c.client().Run(ctx, req)
	if err != nil {
		return err
	}
	if !quiet {
		c.warnOfObstacles(j)
	}
	if in, ok := c.in.(*os.File); ok && j.Spec.Stdin == "" {
		defer watchInput(in, func() { c.notice("what comes on stdin does not reach the job; " + stdinHint) })()
	}
	return c.attach(ctx, j, signals, quiet)
}

// warnOfObstacles says what will keep the job on this node, while it has lost no time yet.
func (c *cli) warnOfObstacles(j api.Job) {
	for _, f := range j.Obstacles {
		c.notice(fmt.Sprintf("warning: as this node is, job %s will not be movable: %s (%s); %s", label(j), f.Cause, f.Code, f.Remedy))
	}
}

// takeStdin names the file that stdin of a foreground run is, as -i would. A detached job has no stdin
// but that of -i: so a loop may start one for each line that it reads.
func (o *runOptions) takeStdin(c *cli) (err error) {
	in, ok := c.in.(*os.File)
	if !ok || o.detach || o.input != "" {
		return nil
	}
	o.input, err = inputFile(in)
	if errors.Is(err, errSharedInput) {
		c.notice("warning: " + err.Error())
		err = nil
	}
	if err == nil && o.input != "" && o.root != "" {
		err = fmt.Errorf("stdin is the file %s, and a job with --root has other paths: name it with -i as the job finds it, or type `migrate run … < /dev/null`", o.input)
	}
	return err
}
