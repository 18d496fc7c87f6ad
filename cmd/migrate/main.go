package main

import (
	"context"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/shim"
)

func main() {
	// This binary is also what starts inside of a job's namespaces and what waits
	// for the job; argument zero tells.
	namespaces.Stage()
	shim.Main()
	s := &shell{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		terminal: term.IsTerminal(int(os.Stderr.Fd())), screen: term.IsTerminal(int(os.Stdout.Fd())), uid: os.Geteuid(),
		environ: os.Environ(), getwd: os.Getwd, now: time.Now,
	}
	os.Exit(s.execute(context.Background(), os.Args[1:]))
}
