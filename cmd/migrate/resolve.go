package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

func newResolveCommand(c *cli) *cobra.Command {
	var take, drop, forget, yes bool
	cmd := &cobra.Command{
		Use:   "resolve [flags] MOVE",
		Short: "Decide a move whose other node is gone for good",
		Long: `Decides a move that waits for a node that is gone for good. Root runs it on the other
node. --take makes the copy on this node the job, --drop gives it up. The agent refuses a
decision while the other node answers, because then the agents finish the move themselves.

You answer for what no program can find out: that the other copy does not run. Make
sure of that before you take this one: switch the other node off if necessary. When it
comes back, even after days, the agent tells it, and it ends what it has of a taken job.

A move with a damaged journal cannot be decided. The agent neither moves nor saves the job
of that journal, so that no second copy runs. Look on all nodes where the job is; then
--forget sets the file aside. It starts and ends nothing.

Without --yes the command says what will happen, and asks.`,
		Example: `  migrate resolve m0123456789abcdef --take
  migrate resolve m0123456789abcdef --drop --yes
  migrate resolve m0123456789abcdef --forget`,
		Args: wantArgs("MOVE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []api.Decision
			for d, named := range map[api.Decision]bool{api.DecisionTake: take, api.DecisionDrop: drop, api.DecisionForget: forget} {
				if named {
					all = append(all, d)
				}
			}
			if len(all) != 1 {
				return usage(cmd, errors.New("name one of --take, --drop and --forget"))
			}
			return interruptible(func(ctx context.Context, args []string) error { return c.resolve(ctx, args[0], all[0], yes) })(cmd, args)
		},
	}
	cmd.Flags().BoolVar(&take, "take", false, "the copy on this node is the job")
	cmd.Flags().BoolVar(&drop, "drop", false, "the copy on this node is not the job")
	cmd.Flags().BoolVar(&forget, "forget", false, "set a damaged journal aside")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (c *cli) resolve(ctx context.Context, move string, decision api.Decision, yes bool) error {
	agent := c.client()
	plan, err := agent.PlanResolve(ctx, move, decision)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("Move %s of job %s", plan.Move, plan.Job)
	if plan.Job == "" {
		what = plan.Move + ", whose job is not known,"
	}
	fmt.Fprintln(c.err, indented(fmt.Sprintf("%s is %s on %s.", what, plan.State, plan.Node)))
	fmt.Fprintln(c.err, indented("Why it waits: "+plan.Why+"."))
	fmt.Fprintf(c.err, "What will happen:\n  %s\n", indented(strings.Join(plan.Does, "\n")))
	fmt.Fprintf(c.err, "What you answer for:\n  %s\n", indented(strings.Join(plan.Vouch, "\n")))
	if !yes {
		if err := c.confirm(); err != nil {
			return err
		}
	}
	done, err := agent.Resolve(ctx, move, decision)
	if err != nil {
		return err
	}
	if done.Forget {
		return printLine(c.out, "the journal of %s is set aside as %s", done.Move, done.File)
	}
	err = printLine(c.out, "move %s is resolved: job %s is %s", done.Move, done.Job, done.Where)
	if done.PeerToTell {
		err = errors.Join(err, printLine(c.err, "%s has not heard of it yet; `migrate moves` lists this until it has", done.Peer))
	}
	return err
}

// confirm asks the operator to type yes.
func (c *cli) confirm() error {
	declined := &api.Error{Code: api.CodeCancelled, Message: "nothing was done"}
	if !c.errTerminal {
		declined.Hint = "there is no terminal to ask on: if all of this is so, `migrate resolve --yes`"
		return declined
	}
	fmt.Fprint(c.err, "Type yes if all of this is so: ")
	answer, err := bufio.NewReader(c.in).ReadString('\n')
	if strings.TrimSpace(answer) == "yes" {
		return nil
	}
	if err != nil {
		fmt.Fprintln(c.err)
	}
	return declined
}
