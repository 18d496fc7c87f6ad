package namespaces

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The stages are told apart by their argument zero, so that no flag of the
// program can reach them.
const (
	stageOneName = "migrate:stage-one"
	stageTwoName = "migrate:stage-two"
	approachName = "migrate:approach"
	insideName   = "migrate:inside"
)

// standardPath is the search path of whoever brings none.
const standardPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// The descriptors that the stages start with.
const (
	configFD = 3
	reportFD = 4
	selfFD   = 5 // this program
	lateFD   = 6 // and up: the mounts of late
)

// Stage runs one of this package's stages if the process was started as one,
// and does not return then. main calls it before anything else.
func Stage() {
	switch os.Args[0] {
	case stageOneName:
		report(one())
	case stageTwoName:
		report(two())
	case approachName:
		report(approach())
	case insideName:
		report(inside())
	}
	if len(os.Args) < 2 || os.Args[1] != chamberName {
		return
	}
	if err := chamber(); err != nil { // another program starts it for us
		fmt.Fprintln(os.Stderr, "prepare the restore:", err)
		os.Exit(125)
	}
}

// report tells the starter why a stage failed and ends the process.
func report(err error) {
	if err == nil {
		os.Exit(0)
	}
	line := strings.ReplaceAll(err.Error(), "\n", "; ")
	_, _ = unix.Write(reportFD, []byte("error "+line+"\n"))
	os.Exit(125)
}

func readConfig() (Config, error) {
	var cfg Config
	f := os.NewFile(configFD, "config")
	if err := json.NewDecoder(f).Decode(&cfg); err != nil {
		return cfg, fmt.Errorf("read the configuration: %w", err)
	}
	return cfg, f.Close()
}

// one finishes the namespaces that only a task inside can make and starts PID 1
// as a child of the shim.
func one() error {
	runtime.LockOSThread() // unshare is per thread, and the fork below takes this thread's
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
	if err := setUpLoopback(); err != nil {
		return err
	}
	return startTwo(cfg)
}

// startTwo makes PID 1, reports its number and hands the configuration on.
func startTwo(cfg Config) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	pid, err := forkInit(stageTwoName, int(r.Fd()))
	if err != nil {
		return fmt.Errorf("make the pid namespace: %w", err)
	}
	if _, err := unix.Write(reportFD, fmt.Appendf(nil, "pid %d\n", pid)); err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(w).Encode(cfg), w.Close(), r.Close())
}

// two is PID 1: it arranges what the job sees and becomes the command.
func two() error {
	runtime.LockOSThread()
	unix.CloseOnExec(reportFD)
	cfg, err := readConfig()
	if err != nil {
		return err
	}
	var mounts []*os.File
	for i, m := range late(cfg) {
		mounts = append(mounts, os.NewFile(uintptr(lateFD+i), m.Source))
	}
	if err := buildRoot(cfg, mounts); err != nil {
		return err
	}
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("become session leader: %w", err)
	}
	if cfg.User {
		cfg.Groups = nil
	}
	if err := become(cfg.UID, cfg.GID, cfg.Groups, cfg.Rlimits); err != nil {
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

// become takes on the user's identity and limits. Without new privileges from
// here on: no set-uid program can undo it.
func become(uid, gid uint32, groups []uint32, limits []Rlimit) error {
	for _, l := range limits {
		lim := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		if err := unix.Setrlimit(l.Resource, &lim); err != nil {
			return fmt.Errorf("set resource limit %d: %w", l.Resource, err)
		}
	}
	ids := make([]int, len(groups))
	for i, g := range groups {
		ids[i] = int(g)
	}
	if err := syscall.Setgroups(ids); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setgid(int(gid)); err != nil {
		return fmt.Errorf("set group %d: %w", gid, err)
	}
	if err := syscall.Setuid(int(uid)); err != nil {
		return fmt.Errorf("set user %d: %w", uid, err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// A process that changed its uid is not dumpable, and its /proc files are
	// root's; the execve that follows undoes the second but not for open ones.
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}

func execute(path string, args, env []string) error {
	if err := unix.CloseRange(3, ^uint(0)>>1&0xffffffff, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	if err := syscall.Exec(path, args, env); err != nil {
		return fmt.Errorf("execute %s: %w", path, err)
	}
	return nil
}

// lookCommand finds name the way a shell in the job would: along its own PATH,
// in its own root.
func lookCommand(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := strings.TrimPrefix(standardPath, "PATH=")
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("command %q not found along PATH %s", name, path)
}
