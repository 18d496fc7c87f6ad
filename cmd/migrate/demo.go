package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/demo"
)

func newDemoCommand(c *cli) *cobra.Command {
	var memory string
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo [flags]",
		Short: "Show a running job move between two nodes on this machine",
		Long: `Makes two nodes on this machine, as network namespaces with an agent each. It starts a
job, moves it there and back while it runs, and shows what the job saw of that. It takes
a few seconds, needs root, and removes everything again, also on Ctrl-C. Status 0
means that it has verified all that it claims.`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err = demoOptions(&o, memory); err != nil {
				return usage(cmd, err)
			}
			o.Out, o.Terminal = c.raw.out, c.outTerminal
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&memory, "memory", "256M", "memory that the job holds, `SIZE`")
	cmd.Flags().IntVar(&o.Moves, "moves", 2, fmt.Sprintf("how often it moves, `N` up to %d", demo.MaxMoves))
	cmd.AddCommand(newDemoJobCommand(c))
	return cmd
}

func demoOptions(o *demo.Options, memory string) (err error) {
	if o.Memory, err = parseSize(memory); err != nil {
		return fmt.Errorf("--memory: %w", err)
	}
	if o.Memory < demo.MemoryStep || o.Memory%demo.MemoryStep != 0 {
		return errors.New("--memory is a whole number of MiB, such as 256M")
	}
	if o.Moves < 1 || o.Moves > demo.MaxMoves {
		return fmt.Errorf("--moves is 1 to %d", demo.MaxMoves)
	}
	o.Job = []string{"demo", "job", memory}
	return nil
}

// newDemoJobCommand is what the demo runs inside of a job.
func newDemoJobCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    "job SIZE",
		Short:  "Run as the job of a demo",
		Hidden: true,
		Args:   wantArgs("SIZE"),
		RunE: func(_ *cobra.Command, args []string) error {
			size, err := parseSize(args[0])
			if err != nil {
				return err
			}
			return demo.Job(c.raw.out, size)
		},
	}
}
