package namespaces

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/thread"
)

const (
	approachName = "migrate:approach"
	insideName   = "migrate:inside"
)

// Visit describes a command to run inside the namespaces of a running job.
type Visit struct {
	Target  int      `json:"target"` // PID 1 of the job, in our pid namespace
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	WorkDir string   `json:"work_dir"`
	UID     uint32   `json:"uid"`
	GID     uint32   `json:"gid"`
	Groups  []uint32 `json:"groups,omitempty"`
	// Cgroup directories that the command enters first.
	Cgroup map[string]string `json:"cgroup"`

	Stdin          io.Reader `json:"-"`
	Stdout, Stderr io.Writer `json:"-"`
}

// ErrOutside says that a visitor was ended before it was inside. A job that is frozen
// for a move takes those with it that enter its cgroup then.
var ErrOutside = errors.New("the command was ended on its way into the job, and has done nothing")

// entered is what a visitor reports once it is in all namespaces.
const entered = "inside\n"

// Enter runs a command in every namespace of the job, the time namespace too,
// and returns its exit code. A command that could not be started at all is a
// *StartError, or wraps [ErrOutside].
func Enter(ctx context.Context, v Visit) (code int, err error) {
	cfgR, cfgW, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	repR, repW, err := os.Pipe()
	if err != nil {
		return 0, errors.Join(err, cfgR.Close(), cfgW.Close())
	}
	defer repR.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{approachName}
	cmd.Env = []string{standardPath}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = v.Stdin, v.Stdout, v.Stderr
	cmd.ExtraFiles = []*os.File{cfgR, repW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = thread.Throwaway(func() error {
		err := cmd.Start()
		err = errors.Join(err, cfgR.Close(), repW.Close())
		if err == nil {
			err = errors.Join(json.NewEncoder(cfgW).Encode(v), cfgW.Close())
		}
		if err != nil {
			return err
		}
		said, err := io.ReadAll(io.LimitReader(repR, 4096))
		waitErr := cmd.Wait()
		report, inside := strings.CutPrefix(string(said), entered)
		if reason, bad := strings.CutPrefix(report, "error "); bad {
			return &StartError{Reason: strings.TrimSpace(reason)}
		}
		var exit *exec.ExitError
		if waitErr != nil && !errors.As(waitErr, &exit) {
			return errors.Join(err, waitErr)
		}
		if !inside {
			return errors.Join(err, ErrOutside)
		}
		code = exitCode(cmd.ProcessState)
		return err
	})
	return code, err
}

// approach enters the job's cgroup and hands over to nsenter(1): a Go process
// has several threads, and the kernel lets only a single-threaded one into a
// user or time namespace. nsenter then starts this binary again, inside, by its
// descriptor, because the job's root need not have the file.
func approach() error {
	v, err := readVisit()
	if err != nil {
		return err
	}
	if _, err := Of(v.Target); err != nil {
		return err // the job has ended
	}
	if err := enterAll(v.Cgroup, os.Getpid()); err != nil {
		return err
	}
	again, err := memfile(v)
	if err != nil {
		return err
	}
	self, err := unix.Open("/proc/self/exe", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("nsenter (package util-linux) is missing: %w", err)
	}
	if err := unix.Dup3(again, configFD, 0); err != nil {
		return err
	}
	args := []string{"nsenter", "--target", strconv.Itoa(v.Target), "--cgroup", "--ipc", "--uts", "--net", "--pid", "--time", "--mount"}
	if HasUserNamespace(v.Target) {
		args = append(args, "--user")
	}
	args = append(args, "--", "/proc/self/fd/"+strconv.Itoa(self), insideName)
	// The starter asked for this too, but of the first thread, which execve ends.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec(nsenter, args, []string{standardPath})
}

func readVisit() (Visit, error) {
	var v Visit
	f := os.NewFile(configFD, "visit")
	if err := json.NewDecoder(f).Decode(&v); err != nil {
		return v, fmt.Errorf("read what to run: %w", err)
	}
	return v, nil
}

func memfile(v Visit) (int, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	fd, err := unix.MemfdCreate("visit", 0)
	if err != nil {
		return 0, err
	}
	if _, err := unix.Write(fd, data); err != nil {
		return 0, err
	}
	_, err = unix.Seek(fd, 0, io.SeekStart)
	return fd, err
}

// inside runs in all namespaces of the job and becomes the command.
func inside() error {
	runtime.LockOSThread()
	if _, err := unix.Write(reportFD, []byte(entered)); err != nil {
		return err
	}
	v, err := readVisit()
	if err != nil {
		return err
	}
	// What it leaves behind must not be of a session from outside: CRIU refuses it.
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("become session leader: %w", err)
	}
	if err := become(v.UID, v.GID, v.Groups, nil); err != nil {
		return err
	}
	// The visitor must not outlive the one who asked for it. A change of uid takes
	// this back, so it comes after that.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if err := os.Chdir(v.WorkDir); err != nil {
		return fmt.Errorf("enter the work directory: %w", err)
	}
	path, err := lookCommand(v.Args[0], v.Env)
	if err != nil {
		return err
	}
	return execute(path, v.Args, v.Env)
}

// HasUserNamespace tells whether a process is in another user namespace than ours.
func HasUserNamespace(pid int) bool {
	return !sameNamespace("/proc/self/ns/user", fmt.Sprintf("/proc/%d/ns/user", pid))
}

func sameNamespace(a, b string) bool {
	x, err := os.Readlink(a)
	y, err2 := os.Readlink(b)
	return err == nil && err2 == nil && x == y
}

// exitCode is a process's status as a shell gives it: 128 and the signal's
// number for one that a signal ended.
func exitCode(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}
