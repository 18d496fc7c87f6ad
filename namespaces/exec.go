package namespaces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/osthread"
)

// ExecSpec describes a command to run inside the namespaces of a running job.
type ExecSpec struct {
	Init    int      `json:"target"` // PID 1 of the job, in our pid namespace
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	WorkDir string   `json:"work_dir"`
	UID     uint32   `json:"uid"`
	GID     uint32   `json:"gid"`
	// Groups are the command's, as far as Target has them.
	Groups []uint32 `json:"groups,omitempty"`
	// Cgroup is the job's own, which Target is in and the command enters first.
	Cgroup map[string]string `json:"cgroup"`
	// UserNS says that the job was given a user namespace of its own.
	UserNS bool `json:"user_ns,omitempty"`
	// Keyring names the command's session keyring, see osthread.NewKeyring.
	Keyring string `json:"keyring,omitempty"`

	Stdin          io.Reader `json:"-"`
	Stdout, Stderr io.Writer `json:"-"`
}

// ErrNotStarted says that the command was killed before it started. A freeze for a move also
// catches a command that enters the cgroup then. It ends with the frozen copy.
var ErrNotStarted = errors.New("the command was ended on its way into the job, and has done nothing")

// startedMark is what the last stage reports right before it executes the command.
const startedMark = "inside\n"

// Exec runs a command in every namespace of the job, the time namespace included, and returns its
// exit code. A command that could not be started is a *StartError, or wraps [ErrNotStarted].
func Exec(ctx context.Context, v ExecSpec) (code int, err error) {
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
	cmd.Args = []string{execStageName}
	cmd.Env = []string{standardPath}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = v.Stdin, v.Stdout, v.Stderr
	cmd.ExtraFiles = []*os.File{cfgR, repW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = osthread.Throwaway(func() error {
		err := osthread.NewKeyring(v.Keyring)
		if err == nil {
			err = cmd.Start()
		}
		closeErr := errors.Join(cfgR.Close(), repW.Close())
		if err != nil {
			return errors.Join(err, closeErr, cfgW.Close())
		}
		sent := errors.Join(exactjson.NewEncoder(cfgW).Encode(v), cfgW.Close())
		code, err = awaitExec(cmd, repR)
		if err != nil { // else it had all that it needed
			err = errors.Join(err, sent)
		}
		return errors.Join(err, closeErr)
	})
	return code, err
}

// awaitExec waits for the stages and the command. It reads the report only afterwards.
func awaitExec(cmd *exec.Cmd, report *os.File) (int, error) {
	waitErr := cmd.Wait()
	said, err := readAvailable(report)
	if err != nil {
		return 0, err
	}
	said, inside := strings.CutPrefix(said, startedMark)
	if reason, bad := strings.CutPrefix(said, failedPrefix); bad {
		return 0, &StartError{Reason: cleanReason(reason)}
	}
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) {
		return 0, waitErr
	}
	if !inside {
		return 0, ErrNotStarted
	}
	return exitCode(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
}

// readAvailable reads what a pipe holds, at most 4 KiB, and does not wait for more.
func readAvailable(pipe *os.File) (string, error) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return "", err
	}
	buf := make([]byte, 4096)
	n := 0
	ctlErr := raw.Read(func(fd uintptr) bool {
		n, err = linux.RetryValue(func() (int, error) { return unix.Read(int(fd), buf) })
		return true
	})
	if err == unix.EAGAIN {
		err = nil
	}
	return string(buf[:max(n, 0)]), errors.Join(err, ctlErr)
}

// HasUserNamespace tells whether a process is in another user namespace than this one.
func HasUserNamespace(pid int) bool {
	return !sameNamespace("/proc/self/ns/user", fmt.Sprintf("/proc/%d/ns/user", pid))
}

func sameNamespace(a, b string) bool {
	x, err := os.Readlink(a)
	y, err2 := os.Readlink(b)
	return err == nil && err2 == nil && x == y
}

// exitCode is a process's status as a shell gives it. A signal counts as 128 and its number.
func exitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
