package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"
)

// execute runs one command line and returns its exit status.
func (c *cli) execute(ctx context.Context, args []string) int {
	output := c.escapeOutput()
	root := newRoot(c)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	printFailure(c.err, err)
	return exitCode(cmp.Or(err, output.flush()))
}

func newRoot(c *cli) *cobra.Command {
	root := commandGroup("migrate", "Run batch jobs and move them, running, from node to node")
	root.Long = `migrate runs batch jobs in kernel namespaces of their own and moves them, running, from
node to node. Every node has an agent. These commands ask the one of this node, which
answers for jobs that have moved on, too.

Exit status: 0 done, 1 failed, 2 usage, 3 refused before anything was touched,
4 aborted (the job runs on where it was), 5 in doubt, 6 moved but something was
left behind, 7 the job ended before it was moved or saved, 130 cancelled. run, exec
and wait return the job's own status, 128+N when signal N ended it.`
	root.Example = `  migrate run --name sim -- ./solve -n 8     start a job and stay with it
  migrate move sim node-b                    move it while it runs
  migrate ps                                 see where it is`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetFlagErrorFunc(usage)
	root.PersistentFlags().StringVar(&c.socket, "socket", c.defaultSocket(), "`PATH` of the agent's socket, also $MIGRATE_SOCKET")
	root.AddCommand(
		newRunCommand(c), newPsCommand(c), newInspectCommand(c), newLogsCommand(c), newWaitCommand(c),
		newKillCommand(c), newExecCommand(c), newRmCommand(c), newMoveCommand(c), newMovesCommand(c), newReportCommand(c), newExplainCommand(c), newResolveCommand(c),
		newCheckpointCommand(c), newRestoreCommand(c), newPKICommand(c), newAgentCommand(c), newDemoCommand(c), newVersionCommand(c),
	)
	return root
}
