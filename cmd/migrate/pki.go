package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/transport/pki"
)

const day = 24 * time.Hour

func newPKICommand(c *cli) *cobra.Command {
	cmd := commandGroup("pki", "Make the certificates by which nodes know each other")
	cmd.Long = `Agents trust certificates that the CA of their cluster has issued. A certificate names
its node. Keep the directory with the CA's key off the nodes.`
	cmd.Example = `  migrate pki init ca --cluster hpc
  migrate pki issue ca node-a --out node-a      then copy node-a/* to /etc/migrate/pki there`
	cmd.AddCommand(newPKIInitCommand(c), newPKIIssueCommand(c))
	return cmd
}

func newPKIInitCommand(c *cli) *cobra.Command {
	var cluster string
	var days int
	cmd := &cobra.Command{
		Use:     "init [flags] DIR --cluster NAME",
		Short:   "Make the CA of a cluster",
		Long:    `Makes the CA of a cluster in DIR. An existing one is never replaced.`,
		Example: `  migrate pki init ca --cluster hpc`,
		Args:    wantArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cluster == "" || days < 1 {
				return usage(cmd, errors.New("pki init needs --cluster NAME, and --days above 0"))
			}
			if err := pki.Init(args[0], cluster, time.Duration(days)*day); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.out, "wrote %s and %s; keep the key off the nodes\n",
				filepath.Join(args[0], pki.CACertFile), filepath.Join(args[0], pki.CAKeyFile))
			return err
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "`NAME` of the cluster (required)")
	cmd.Flags().IntVar(&days, "days", 3650, "how long the CA is valid, in days, `N`")
	return cmd
}

func newPKIIssueCommand(c *cli) *cobra.Command {
	var out string
	var days int
	cmd := &cobra.Command{
		Use:   "issue [flags] DIR NODE --out DIR",
		Short: "Issue a node's certificate",
		Long: `Issues a certificate for NODE with the CA in DIR and writes ca.crt, node.crt and
node.key into the --out directory. Run again for the same node it renews them.`,
		Example: `  migrate pki issue ca node-a --out node-a`,
		Args:    wantArgs("DIR", "NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" || days < 1 {
				return usage(cmd, errors.New("pki issue needs --out DIR, and --days above 0"))
			}
			if err := pki.Issue(args[0], args[1], time.Duration(days)*day, out); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.out, "wrote %s, %s and %s for %s into %s; copy them to /etc/migrate/pki there\n",
				pki.CACertFile, pki.NodeCertFile, pki.NodeKeyFile, args[1], out)
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write the files into `DIR` (required)")
	cmd.Flags().IntVar(&days, "days", 365, "how long the certificate is valid, in days, `N`")
	return cmd
}
