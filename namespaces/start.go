package namespaces

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/thread"
)

// Process is a started job: its PID 1, a child of the caller.
type Process struct {
	Pid int // in the caller's pid namespace
}

// Surroundings are what only the starter, outside, can give a job while its
// namespaces already exist and its command does not run yet.
type Surroundings struct {
	// Cgroup is entered before the cgroup namespace is made.
	Cgroup *Cgroup
	// Network is called with a pid in the job's network namespace; nil leaves
	// the job with a loopback.
	Network func(pid int) error
}

// Start runs cfg's command as PID 1 of new namespaces and returns when execve
// has succeeded. The caller is its parent and must reap it.
// An error names the step that failed; nothing is left running then, but for a process
// that outlives SIGKILL, which waits for a file server that does not answer.
func Start(ctx context.Context, cfg Config, around Surroundings) (*Process, error) {
	src, err := takeSources(cfg)
	if err != nil {
		return nil, err
	}
	defer src.close()
	var p *Process
	err = thread.Throwaway(func() (err error) {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace to build in: %w", err)
		}
		// Before anything is mounted that a user has named: whatever the path leads to
		// afterwards, this thread and stage one know this /proc, and our program by it.
		if err := unix.Chdir("/proc"); err != nil {
			return err
		}
		if err := prepareTree(cfg, src); err != nil {
			return err
		}
		p, err = start(ctx, cfg, around, src.late)
		return err
	})
	return p, err
}

func start(ctx context.Context, cfg Config, around Surroundings, mounts []*os.File) (*Process, error) {
	toChild, fromChild, cmd, err := stageOne(cfg, mounts)
	if err != nil {
		return nil, err
	}
	defer toChild.Close()
	defer fromChild.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = cmd.Process.Kill()
		_ = fromChild.SetReadDeadline(time.Now().Add(lastWords)) // PID 1 may hold the other end for ever
	})

	pid, err := guide(cfg, around, cmd.Process.Pid, toChild, fromChild)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = cmd.Process.Kill() // it may still wait for its configuration
	}
	_ = cmd.Wait() // its failure has reached us over the pipe
	if err != nil {
		if pid > 0 && !reapKilled(pid) {
			err = fmt.Errorf("%w (process %d has outlived SIGKILL until now)", err, pid)
		}
		return nil, err
	}
	return &Process{Pid: pid}, nil
}

// stageOne starts the first stage with its two pipes: the way in carries the
// configuration, the way out what the stages report. The working directory is /proc.
func stageOne(cfg Config, mounts []*os.File) (in *os.File, out *os.File, cmd *exec.Cmd, err error) {
	self, err := openat2(unix.AT_FDCWD, "self/exe", 0, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	defer self.Close()
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(err, childIn.Close(), in.Close())
	}
	cmd = exec.Command("self/exe")
	cmd.Args = []string{stageOneName}
	cmd.Env = []string{}
	cmd.ExtraFiles = append([]*os.File{childIn, childOut, self}, mounts...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if cfg.User {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = sysMaps(cfg.UIDs)
		cmd.SysProcAttr.GidMappings = sysMaps(cfg.GIDs)
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	}
	err = cmd.Start()
	err = errors.Join(err, childIn.Close(), childOut.Close())
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("make namespaces: %w", err), in.Close(), out.Close())
	}
	return in, out, cmd, nil
}

func sysMaps(maps []IDMap) []syscall.SysProcIDMap {
	var s []syscall.SysProcIDMap
	for _, m := range maps {
		s = append(s, syscall.SysProcIDMap{ContainerID: int(m.Inside), HostID: int(m.Outside), Size: int(m.Count)})
	}
	return s
}

// guide gives the waiting first stage its surroundings and its configuration
// and listens until execve has closed the pipe.
func guide(cfg Config, around Surroundings, stagePid int, in io.WriteCloser, out io.Reader) (pid int, err error) {
	if around.Cgroup != nil {
		if err := around.Cgroup.Enter(stagePid); err != nil {
			return 0, err
		}
	}
	if around.Network != nil {
		if err := around.Network(stagePid); err != nil {
			return 0, fmt.Errorf("network of the job: %w", err)
		}
	}
	if err := json.NewEncoder(in).Encode(cfg); err != nil {
		return 0, fmt.Errorf("hand the configuration to the first stage: %w", err)
	}
	if err := in.Close(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "pid":
			if pid, err = strconv.Atoi(rest); err != nil {
				return 0, fmt.Errorf("first stage named a bad pid: %w", err)
			}
		case "error":
			return pid, &StartError{Reason: rest}
		}
	}
	if err := lines.Err(); err != nil {
		return pid, fmt.Errorf("listen to the stages: %w", err)
	}
	if pid == 0 {
		return 0, &StartError{Reason: "the first stage ended without a word"}
	}
	return pid, nil
}

// StartError is a command that could not be started in its namespaces; Reason
// is the step and the kernel's answer.
type StartError struct{ Reason string }

func (e *StartError) Error() string { return "start the job: " + e.Reason }

const (
	lastWords = time.Second     // for what the stages of a start that is given up have still to say
	killTime  = 2 * time.Second // for a process to end that was killed
)

// reapKilled ends a child, and tells whether it has ended.
func reapKilled(pid int) bool {
	_ = unix.Kill(pid, unix.SIGKILL)
	for end := time.Now().Add(killTime); ; time.Sleep(time.Millisecond) {
		n, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if n == pid || err != nil && err != unix.EINTR {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
