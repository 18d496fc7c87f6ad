package namespaces

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// stage1 makes the namespaces that only a task inside can make. It starts PID 1 as a child of the
// shim.
func stage1() error {
	runtime.LockOSThread() // unshare is per thread, and the fork below takes this thread's
	unix.CloseOnExec(linkFD)
	cfg, err := readConfig()
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("make cgroup and time namespaces: %w", err)
	}
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return fmt.Errorf("set hostname %q: %w", cfg.Hostname, err)
	}
	if err := network.SetUpLoopback(); err != nil {
		return err
	}
	return startStage2(cfg)
}

// startStage2 makes PID 1 and sends its pidfd to the shim. When the shim has it, stage two gets
// the configuration.
func startStage2(cfg Config) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	pidfd, err := forkInit(stage2Name, int(r.Fd()))
	if err != nil {
		return fmt.Errorf("make the pid namespace: %w", err)
	}
	if err := unix.Sendmsg(linkFD, []byte{0}, unix.UnixRights(pidfd), nil, 0); err != nil {
		return fmt.Errorf("hand over the job's first process: %w", err)
	}
	answer := make([]byte, 1)
	if n, err := unix.Read(linkFD, answer); err != nil || n != 1 || answer[0] != initReceived {
		return errors.Join(errors.New("the job's first process was not taken"), err)
	}
	return errors.Join(exactjson.NewEncoder(w).Encode(cfg), w.Close(), r.Close())
}

// stage2 is PID 1: it builds what the job sees and executes the command.
func stage2() error {
	runtime.LockOSThread()
	unix.CloseOnExec(reportFD)
	cfg, err := readConfig()
	if err != nil {
		return err
	}
	var mounts []*os.File
	for i, m := range innerMounts(cfg) {
		mounts = append(mounts, os.NewFile(uintptr(innerMountFD+i), m.Source))
	}
	if err := buildRoot(cfg, mounts); err != nil {
		return err
	}
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("become session leader: %w", err)
	}
	if err := setCredentials(cfg); err != nil {
		return err
	}
	if err := os.Chdir(cfg.WorkDir); err != nil {
		return fmt.Errorf("enter the work directory: %w", err)
	}
	path, err := lookCommand(cfg.Args[0], cfg.Env)
	if err != nil {
		return err
	}
	unix.Umask(int(cfg.Umask))
	if err := openStdio(cfg); err != nil {
		return err
	}
	return execute(path, cfg.Args, cfg.Env)
}

// setCredentials takes on the user's identity and limits, with no_new_privs: no set-uid program
// can undo it. The process is not dumpable until the execve, so that only root can trace it or
// reach its descriptors. It can still open its own /proc/self/fd.
func setCredentials(cfg Config) error {
	for _, l := range cfg.Rlimits {
		lim := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		if err := unix.Setrlimit(l.Resource, &lim); err != nil {
			return fmt.Errorf("set resource limit %d: %w", l.Resource, err)
		}
	}
	for _, c := range DroppedCaps(cfg.UID, cfg.User) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	ids := make([]int, len(cfg.Groups))
	for i, g := range cfg.Groups {
		ids[i] = int(g)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := syscall.Setgroups(ids); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setgid(int(cfg.GID)); err != nil {
		return fmt.Errorf("set group %d: %w", cfg.GID, err)
	}
	if err := syscall.Setuid(int(cfg.UID)); err != nil {
		return fmt.Errorf("set user %d: %w", cfg.UID, err)
	}
	if cfg.UID != 0 { // whatever securebits the agent was given
		if err := noCapabilities(); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// Which a change of uid sets to what fs.suid_dumpable says.
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
