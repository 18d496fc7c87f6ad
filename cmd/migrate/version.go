package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newVersionCommand(c *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Print the version of this program",
		Long: `Prints the version of this program, the commit it was built from, and what it was
built with. The commit is known if the program was built in a clone, and without -buildvcs=false.`,
		Example: `  migrate version
  migrate version --json`,
		Args: wantArgs(),
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if asJSON {
				return printJSON(c.out, b)
			}
			return b.print(c.out)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// Build is what a program knows of its own making.
type Build struct {
	Version  string    `json:"version"`            // of the module, or devel-REVISION
	Revision string    `json:"revision,omitempty"` // of the commit; "": not known
	Time     time.Time `json:"time,omitzero"`      // of the commit
	Modified bool      `json:"modified"`           // the build had changes that are in no commit
	Go       string    `json:"go"`
	Platform string    `json:"platform"`
}

func thisBuild() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return buildOf(info)
}

func buildOf(info *debug.BuildInfo) Build {
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	committed, _ := time.Parse(time.RFC3339, set["vcs.time"]) // zero without a commit
	b := Build{
		Version: info.Main.Version, Revision: set["vcs.revision"], Time: committed, Modified: set["vcs.modified"] == "true",
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = strings.TrimSuffix("devel-"+b.Revision[:min(12, len(b.Revision))], "-")
	}
	return b
}

func (b Build) print(w io.Writer) error {
	commit := "commit " + b.Revision + " of " + b.Time.Format(time.RFC3339)
	if b.Modified {
		commit += ", with changes that are in no commit"
	}
	if b.Revision == "" {
		commit = "commit unknown: to have it told, build in a clone with: GOFLAGS=-buildvcs=true make build"
	}
	_, err := fmt.Fprintf(w, "migrate %s %s %s\n%s\n", b.Version, b.Go, b.Platform, commit)
	return err
}
