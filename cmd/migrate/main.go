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
	// The same binary enters a job's namespaces and is the job's shim, if argument zero says so.
	namespaces.Stage()
	shim.Main()
	c := &cli{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		errTerminal: term.IsTerminal(int(os.Stderr.Fd())), outTerminal: term.IsTerminal(int(os.Stdout.Fd())), uid: os.Geteuid(),
		ownKeyring: enterOwnKeyring, environ: os.Environ(), getwd: os.Getwd, now: time.Now,
	}
	os.Exit(c.execute(context.Background(), os.Args[1:]))
}

// enterOwnKeyring gives an agent a session keyring of its own. The kernel looks up answers
// there, such as those of DNS, and the user who starts an agent can write to the inherited
// one. A keyring belongs to a thread; only an execve ends the other threads.
func enterOwnKeyring() error {
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
