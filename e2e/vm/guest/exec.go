//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// execute runs a command and passes on what it says while it says it. When the
// client goes away the command's process group is killed.
func execute(w http.ResponseWriter, r *http.Request) {
	var c api.Command
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || len(c.Args) == 0 {
		http.Error(w, "no command", http.StatusBadRequest)
		return
	}
	s := &stream{enc: json.NewEncoder(w), flush: http.NewResponseController(w)}
	code, err := s.run(r.Context(), c)
	if err != nil {
		s.send(api.Output{Fail: err.Error()})
		return
	}
	s.send(api.Output{Exit: &code})
}

// stream writes pieces of output, each at once.
type stream struct {
	mu    sync.Mutex
	enc   *json.Encoder
	flush *http.ResponseController
}

func (s *stream) send(o api.Output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc.Encode(o) == nil { // else the client is gone, and its context tells
		_ = s.flush.Flush()
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func (s *stream) run(ctx context.Context, c api.Command) (int, error) {
	var out, errs io.Writer = writerFunc(func(p []byte) { s.send(api.Output{Out: p}) }), writerFunc(func(p []byte) { s.send(api.Output{Err: p}) })
	if c.Detach {
		ctx = context.WithoutCancel(ctx)
		f, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		out, errs = f, f
	}
	cmd, closeCgroup, err := command(ctx, c)
	if err != nil {
		return 0, err
	}
	defer closeCgroup()
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if c.Detach {
		go func() { _ = cmd.Wait() }() // for as long as the guest lives
		return cmd.Process.Pid, nil
	}
	return status(cmd.Wait(), cmd), nil
}

func command(ctx context.Context, c api.Command) (*exec.Cmd, func(), error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env, cmd.Dir = environment(c.Env), c.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID}
	}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	if c.Cgroup == "" {
		return cmd, func() {}, nil
	}
	if err := os.MkdirAll(c.Cgroup, 0o755); err != nil {
		return nil, nil, err
	}
	dir, err := os.Open(c.Cgroup)
	if err != nil {
		return nil, nil, err
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return cmd, func() { _ = dir.Close() }, nil
}

func status(err error, cmd *exec.Cmd) int {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return -1
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}
