package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/osthread"
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
		alone: alone, environ: os.Environ(), getwd: os.Getwd, now: time.Now,
	}
	os.Exit(s.execute(context.Background(), os.Args[1:]))
}

// alone starts the program again, in the same process, where it has not a session keyring
// of its own yet: in the one of whoever starts an agent, others can put what the kernel then
// finds for it, such as answers to its questions for names. A keyring is a thread's, and
// the other threads go with the execve only.
func alone() error {
	if osthread.HasKeyring(agentKeyring) {
		return nil
	}
	runtime.LockOSThread()
	if err := osthread.NewKeyring(agentKeyring); err != nil {
		return err
	}
	return fmt.Errorf("start the agent again: %w", syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
}

const agentKeyring = "agent"
