package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/netpolicy"
)

func newAgentCommand(c *cli) *cobra.Command {
	cfg := node.Config{Version: thisBuild().Version}
	var peers, networks []string
	cmd := &cobra.Command{
		Use:   "agent [flags]",
		Short: "Run the agent of this node",
		Long: `Runs the agent of this node, as root, until SIGTERM or SIGINT. At its start it
finishes or undoes the moves that an earlier agent has begun. Jobs run on when it stops
or starts. It logs to stderr.`,
		Example: `  migrate agent
  migrate agent --peer node-b=10.0.0.2:7707 --listen 10.0.0.1:7707
  migrate agent --network br0=10.1.0.0/24,fd00:1::/64@hpc --network br0=10.1.1.10-10.1.1.99`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if cfg.Peers, err = parsePeers(peers); err != nil {
				return usage(cmd, err)
			}
			if cfg.Networks, err = netpolicy.Parse(networks); err != nil {
				return usage(cmd, err)
			}
			if c.ownKeyring != nil {
				if err := c.ownKeyring(); err != nil {
					return err
				}
			}
			dir, err := c.getwd()
			if err != nil {
				return err
			}
			for _, path := range []*string{&cfg.StateDir, &cfg.RunDir, &cfg.Socket, &cfg.PKIDir} {
				*path = absolute(dir, *path)
			}
			cfg.Log = slog.New(slog.NewTextHandler(c.err, nil))
			return interruptible(func(ctx context.Context, _ []string) error { return agent.Run(ctx, cfg) })(cmd, args)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&cfg.Node, "node", "", "`NAME` of this node (default: the one in the certificate)")
	f.StringVar(&cfg.Listen, "listen", ":7707", "`HOST:PORT` to listen on for other nodes")
	f.StringArrayVar(&peers, "peer", nil, "address of another node's agent, `NAME=HOST:PORT`; may be given more than once")
	f.StringArrayVar(&networks, "network", nil, "which users but root may have which addresses on a bridge, `RULE` BRIDGE=RANGE[,RANGE...][@GROUP],\neach RANGE a subnet or FIRST-LAST; may be given more than once (default: none)")
	f.StringVar(&cfg.PKIDir, "pki", "/etc/migrate/pki", "`DIR` with ca.crt, node.crt and node.key")
	f.StringVar(&cfg.StateDir, "state", "/var/lib/migrate", "`DIR` for what survives a reboot of the node: records, journals, output")
	f.StringVar(&cfg.RunDir, "run", "/run/migrate", "`DIR` for what does not: sockets and mounts")
	f.StringVar(&cfg.Socket, "socket", "", "socket for local users, `PATH` (default: agent.sock in the --run directory)")
	f.StringVar(&cfg.CRIU, "criu", "", "`PATH` of criu (default: $MIGRATE_CRIU, the one that setup installed, or the one in PATH)")
	return cmd
}
