package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

// shell is what surrounds a command.
type shell struct {
	in       io.Reader
	out, err io.Writer
	raw      streams // out and err as they were given; see guard
	terminal bool    // a person looks at err
	screen   bool    // a person looks at out
	uid      int
	environ  []string
	getwd    func() (string, error)
	alone    func() error // has an agent share nothing with who started it; nil: it may
	now      func() time.Time

	socket string // --socket
}

func (s *shell) client() *api.Client { return api.NewClient(s.socket) }

// execute runs one command line and returns its exit status.
func (s *shell) execute(ctx context.Context, args []string) int {
	safe := s.guard()
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	printFailure(s.err, err)
	if broken := safe.flush(); err == nil {
		err = broken
	}
	return exitCode(err)
}

func newRoot(s *shell) *cobra.Command {
	root := group("migrate", "Run batch jobs and move them, running, from node to node")
	root.Long = `migrate runs batch jobs in their own private set of kernel namespaces and moves
them, running, from node to node. Every node has an agent; these commands talk to
the one of this node, which answers for jobs that have moved on, too.

Exit status: 0 done, 1 failed, 2 usage, 3 refused before anything was touched,
4 aborted (the job runs on where it was), 5 in doubt, 6 moved but something was
left behind, 130 cancelled. run, exec and wait return the job's own status,
128+N when signal N ended it.`
	root.Example = `  migrate run --name sim -- ./solve -n 8     start a job and stay with it
  migrate move sim node-b                    move it while it runs
  migrate ps                                 see where it is`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(usage)
	root.PersistentFlags().StringVar(&s.socket, "socket", s.defaultSocket(), "`PATH` of the agent's socket, also $MIGRATE_SOCKET")
	root.AddCommand(
		newRunCommand(s), newPsCommand(s), newInspectCommand(s), newLogsCommand(s), newWaitCommand(s),
		newKillCommand(s), newExecCommand(s), newRmCommand(s), newMoveCommand(s), newMovesCommand(s), newReportCommand(s), newResolveCommand(s),
		newCheckpointCommand(s), newRestoreCommand(s), newPKICommand(s), newAgentCommand(s), newDemoCommand(s), newVersionCommand(s),
	)
	return root
}

func (s *shell) defaultSocket() string {
	for _, e := range s.environ {
		if v, ok := strings.CutPrefix(e, "MIGRATE_SOCKET="); ok && v != "" {
			return v
		}
	}
	return api.DefaultSocket
}

// group is a command that only has commands beneath it.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			problem := fmt.Sprintf("there is no command %q", args[0])
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				problem += "; did you mean " + strings.Join(like, " or ") + "?"
			}
			return usage(cmd, errors.New(problem))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// takes checks that a command got these arguments; the last may end in "..." and
// be there more than once.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		many := len(names) > 0 && strings.HasSuffix(names[len(names)-1], "...")
		if len(args) == len(names) || many && len(args) > len(names) {
			return nil
		}
		want := strings.Join(names, " ")
		if want == "" {
			want = "no arguments"
		}
		return usage(cmd, fmt.Errorf("%s takes %s, and got %d", cmd.Name(), want, len(args)))
	}
}

// interruptible gives run a context that ends with SIGINT, SIGTERM or SIGHUP.
func interruptible(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), unlessIgnored(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)...)
		defer stop()
		return run(ctx, args)
	}
}

// unlessIgnored leaves out what whoever started us wants ignored, as nohup does.
func unlessIgnored(signals ...os.Signal) []os.Signal {
	var heard []os.Signal
	for _, sig := range signals {
		if !signal.Ignored(sig) {
			heard = append(heard, sig)
		}
	}
	return heard
}
