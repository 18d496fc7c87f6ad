package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
)

// cli is a command's environment: its streams, its user and the agent that it asks.
type cli struct {
	in          io.Reader
	out, err    io.Writer
	raw         streams // out and err before escapeOutput
	errTerminal bool    // err is a terminal
	outTerminal bool    // out is a terminal
	uid         int
	environ     []string
	getwd       func() (string, error)
	ownKeyring  func() error // gives an agent a session keyring of its own; nil: it needs none
	now         func() time.Time

	socket string // --socket
}

func (c *cli) client() *api.Client { return api.NewClient(c.socket) }

func (c *cli) defaultSocket() string {
	for _, e := range c.environ {
		if v, ok := strings.CutPrefix(e, "MIGRATE_SOCKET="); ok && v != "" {
			return v
		}
	}
	return api.DefaultSocket
}

// escapeOutput escapes in all that a command prints what a terminal would obey. Only a job's
// own bytes and the progress bar bypass it, through c.raw.
func (c *cli) escapeOutput() *streams {
	if c.raw.out == nil {
		c.raw = streams{out: c.out, err: c.err}
	}
	var s streams
	c.out, c.err = s.escaped(c.raw.out), s.escaped(c.raw.err)
	return &s
}

// jobOutput is where the output of a user's job goes. It is escaped on a terminal if the job
// is another user's, since root may look at it; otherwise its bytes pass unchanged.
func (c *cli) jobOutput(uid uint32) *streams {
	to := c.raw
	if int64(uid) == int64(c.uid) {
		return &to
	}
	if c.outTerminal {
		to.out = to.escaped(to.out)
	}
	if c.errTerminal {
		to.err = to.escaped(to.err)
	}
	return &to
}

// ownerOf asks for the user of a job, if jobOutput needs it: only root sees jobs of others.
func (c *cli) ownerOf(inspect func() (api.Job, error)) (uint32, error) {
	if c.uid != 0 || !c.outTerminal && !c.errTerminal {
		return uint32(c.uid), nil
	}
	j, err := inspect()
	return j.Spec.UID, err
}

// notice prints a line that is not the command's output.
func (c *cli) notice(text string) { fmt.Fprintln(c.err, "migrate:", indented(text)) }
