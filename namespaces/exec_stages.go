package namespaces

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/linux"
)

// execStage1 forks the process that becomes the command, and ends as that does:
//
//	agent ── stage 1 ── first child: enters cgroup and namespaces
//	            └─ CLONE_PARENT ─ stage 2: born in the pid namespace; limits, ids, execve
//
// The user decides what is mounted in the job. So stage 2 opens nothing by path once it is in the
// mount namespace, and it executes descriptors. The job could trace a process that it sees. The
// first child is in no pid namespace of the job, and stage 2 is not dumpable before its execve.
// The command inherits no descriptor that a stage reports on.
func execStage1() error {
	runtime.LockOSThread()
	v, err := readExecSpec()
	if err != nil {
		return err
	}
	job, err := openTarget(v)
	if err != nil {
		return err
	}
	if err := job.processAttrs.apply(); err != nil {
		return err
	}
	// Groups of the user's stay what they are outside, in a user namespace too.
	v.Groups = slices.DeleteFunc(v.Groups, func(g uint32) bool { return !slices.Contains(job.groups, g) })
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p := childPlan{errFD: int(w.Fd())}
	if err := p.planExec(v, job, int(r.Fd())); err != nil {
		return err
	}
	pid, err := p.fork(0)
	if err != nil {
		return err
	}
	closeNamespaces(job.fds)
	_ = w.Close() // the children's end is another
	why := p.readError(r)
	ws, err := waitChildren(pid)
	if err := errors.Join(why, err); err != nil {
		return err
	}
	unix.Exit(exitCode(syscall.WaitStatus(ws))) // os.Exit takes a second with the race detector
	return nil
}

func readExecSpec() (v ExecSpec, err error) {
	f := os.NewFile(configFD, "visit")
	if err := exactjson.NewDecoder(f).Decode(&v); err != nil {
		return v, fmt.Errorf("read what to run: %w", err)
	}
	return v, f.Close()
}

// planExec plans both children. unheard is the reading end of the error pipe, which only their
// parent keeps.
func (p *childPlan) planExec(v ExecSpec, job execTarget, unheard int) error {
	p.add(call("close a pipe", unix.SYS_CLOSE, unheard), undumpable())
	p.planDeathSignal()
	if err := p.planCgroup(job.cgroups); err != nil {
		return err
	}
	for _, d := range job.fds {
		if d.kind != "user" || v.UserNS {
			p.add(call("enter the job's "+d.kind+" namespace", unix.SYS_SETNS, d.fd, d.flag))
		}
	}
	p.add(call("fork in the job, which may have ended", unix.SYS_CLONE, unix.CLONE_PARENT|int(unix.SIGCHLD)))
	p.planDeathSignal()
	if err := p.planAttrs(job.processAttrs); err != nil {
		return err
	}
	p.planCredentials(v)
	p.planDeathSignal() // a change of uid takes it back
	return p.planCommand(v)
}

func undumpable() childCall {
	return call("become undumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
}

// planCredentials takes on the job's user, as setCredentials does.
func (p *childPlan) planCredentials(v ExecSpec) {
	groups := call("set groups", unix.SYS_SETGROUPS, len(v.Groups))
	groups.mem[1] = unsafe.Pointer(unsafe.SliceData(v.Groups))
	p.add(groups, call(fmt.Sprintf("set group %d", v.GID), unix.SYS_SETGID, int(v.GID)), call(fmt.Sprintf("set user %d", v.UID), unix.SYS_SETUID, int(v.UID)))
	if v.UID != 0 {
		head, sets := emptyCapabilities()
		drop := call("drop capabilities", unix.SYS_CAPSET)
		drop.mem[0], drop.mem[1] = unsafe.Pointer(head), unsafe.Pointer(sets)
		p.add(drop)
	}
	p.add(undumpable(), call("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1))
}

// planCommand executes the command, found as lookCommand finds it.
func (p *childPlan) planCommand(v ExecSpec) error {
	session := call("become session leader", unix.SYS_SETSID) // CRIU refuses what is left behind in one from outside
	session.want = anyResult
	dir, err := syscall.BytePtrFromString(v.WorkDir)
	if err != nil {
		return err
	}
	enter := call("enter the work directory "+v.WorkDir, unix.SYS_CHDIR)
	enter.mem[0] = unsafe.Pointer(dir)
	p.add(session, enter)
	if err := p.planSignals(); err != nil {
		return err
	}
	say := call("report", unix.SYS_WRITE, reportFD, 0, len(startedMark))
	say.mem[1], say.want = unsafe.Pointer(unsafe.StringData(startedMark)), uintptr(len(startedMark))
	p.add(call("close inherited descriptors", unix.SYS_CLOSE_RANGE, 3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC), say, p.unblockSignals())
	return p.planExecve(v)
}

func (p *childPlan) planExecve(v ExecSpec) error {
	argv, err1 := syscall.SlicePtrFromStrings(v.Args)
	envp, err2 := syscall.SlicePtrFromStrings(v.Env)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	exec := func(path, what string) (childCall, error) {
		name, err := syscall.BytePtrFromString(path)
		s := call(what, unix.SYS_EXECVE)
		s.mem[0], s.mem[1], s.mem[2] = unsafe.Pointer(name), unsafe.Pointer(&argv[0]), unsafe.Pointer(&envp[0])
		return s, err
	}
	name, path := v.Args[0], searchPath(v.Env)
	if strings.Contains(name, "/") {
		s, err := exec(name, "execute "+name)
		p.add(s)
		return err
	}
	for _, dir := range filepath.SplitList(path) {
		s, err := exec(filepath.Join(dir, name), fmt.Sprintf("execute %s in %s", name, dir))
		if err != nil {
			return err
		}
		s.optional = true
		p.add(s)
	}
	nothing, err := exec("", fmt.Sprintf("find the command %q along PATH %s", name, path))
	p.add(nothing)
	return err
}

// planDeathSignal ends a child with its parent, also if the parent has ended before.
func (p *childPlan) planDeathSignal() {
	heard := call("look for its starter", unix.SYS_POLL, 0, 1, 0)
	heard.mem[0] = unsafe.Pointer(&unix.PollFd{Fd: int32(p.errFD)}) // POLLERR without a reader
	p.add(call("end with its starter", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL)), heard)
}

// planCgroup enters the job's cgroup. That comes before the namespaces: a freeze of the job then
// covers every process that could enter it.
func (p *childPlan) planCgroup(dirs map[string]string) error {
	for _, dir := range dirs {
		path := filepath.Join(dir, "cgroup.procs")
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("enter cgroup: %w", &os.PathError{Op: "open", Path: path, Err: err})
		}
		zero := []byte("0") // the writer itself
		s := call("enter cgroup "+dir, unix.SYS_WRITE, fd, 0, len(zero))
		s.mem[1], s.want = unsafe.Pointer(&zero[0]), uintptr(len(zero))
		p.add(s)
	}
	return nil
}

// readError returns when the last child has executed a program, or the call that failed. A child
// that was killed reports nothing.
func (p *childPlan) readError(r *os.File) error {
	var f callError
	if err := binary.Read(r, binary.NativeEndian, &f); err != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", p.steps[f[0]].what, syscall.Errno(f[1]))
}

// waitChildren waits for the first child and for the second, if there is one. It returns how the
// last one ended.
func waitChildren(first int) (unix.WaitStatus, error) {
	ws, err := wait4(first)
	if err == nil && ws == 0 {
		ws, err = wait4(-1)
	}
	return ws, err
}

func wait4(pid int) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	_, err := linux.RetryValue(func() (int, error) { return unix.Wait4(pid, &ws, 0, nil) })
	return ws, err
}

// execTarget is the job as its namespaces were opened.
type execTarget struct {
	fds []nsFD
	processAttrs
}

// openTarget opens the namespaces of a job's first process, each once, and checks what it has
// opened. The process belongs to the user: it may unshare at any time, and then rules over the new
// namespaces. Its pid may have been reused. So openTarget holds a pidfd and looks for the process
// in the job's cgroup, which it cannot leave. After an error the caller exits, which closes the
// descriptors.
func openTarget(v ExecSpec) (job execTarget, err error) {
	process, err := unix.PidfdOpen(v.Init, 0)
	if err != nil {
		return job, fmt.Errorf("process %d, the job's first: %w", v.Init, err)
	}
	job.fds, err = openNamespaces(v.Init)
	if err != nil {
		return job, err
	}
	if job.processAttrs, err = attrsOf(v.Init); err != nil {
		return job, err
	}
	if err := linux.Alive(process); err != nil { // else its pid may have been reused
		return job, fmt.Errorf("process %d, the job's first: %w", v.Init, err)
	}
	for h, dir := range v.Cgroup {
		if is := job.cgroups[h]; is != dir && !strings.HasPrefix(is, dir+"/") {
			return job, fmt.Errorf("process %d is none of the job's: it is not in cgroup %s", v.Init, dir)
		}
		job.cgroups[h] = dir
	}
	return job, errors.Join(checkOwners(job.fds, v.UserNS), unix.Close(process))
}
