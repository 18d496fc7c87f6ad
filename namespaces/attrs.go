package namespaces

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/procfs"
)

// A process inherits attributes from its parent, beyond its ids. A job inherits none from the
// agent, which its operator may have given a priority or more. A command that is executed in a
// job gets those of the job's first process.

// TimerSlack is what the kernel gives to its first process, and a job gets, in nanoseconds.
const TimerSlack = 50000

// ResetAttrs gives this thread, and what it starts, the attributes of an ordinary process. setOOM
// does the rest.
func ResetAttrs() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil && !errors.Is(err, unix.EPERM) { // less is none of our rights
		return fmt.Errorf("take an ordinary priority: %w", err)
	}
	if err := setIOPriority(0); err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, 0, 0, 0); errno != 0 {
		return fmt.Errorf("take an ordinary personality: %w", errno)
	}
	return unix.Prctl(unix.PR_SET_TIMERSLACK, TimerSlack, 0, 0, 0)
}

const ioprioWhoProcess = 1 // see ioprio_set(2)

func setIOPriority(value uintptr) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, value); errno != 0 && errno != unix.ENOSYS {
		return fmt.Errorf("set the I/O priority: %w", errno)
	}
	return nil
}

// setOOM sets how soon the kernel ends a process, "self" for this, when memory is short.
func setOOM(process string, score int) error {
	//house:allow os.WriteFile: a file of the kernel
	err := os.WriteFile("/proc/"+process+"/oom_score_adj", strconv.AppendInt(nil, int64(score), 10), 0)
	if errors.Is(err, fs.ErrPermission) { // it is worse off already
		return nil
	}
	return err
}

// processAttrs are the attributes that a process inherits from its parent. A command of ExecSpec
// gets those of the job's first process.
type processAttrs struct {
	sched    *unix.SchedAttr
	cpus     unix.CPUSet // none: not known
	ioprio   uintptr
	oom      int
	umask    int
	capBound uint64 // capabilities
	groups   []uint32
	limits   []Rlimit
	// cgroups has a directory for each hierarchy of the node.
	cgroups map[string]string
}

// attrsOf reads the attributes of a process. The caller makes sure that the pid has not been
// reused.
func attrsOf(pid int) (l processAttrs, err error) {
	if l.sched, err = unix.SchedGetAttr(pid, 0); err != nil {
		return l, fmt.Errorf("priority of process %d: %w", pid, err)
	}
	if err := unix.SchedGetaffinity(pid, &l.cpus); err != nil && !errors.Is(err, unix.EINVAL) { // more processors than we know
		return l, fmt.Errorf("processors of process %d: %w", pid, err)
	}
	var errno syscall.Errno
	if l.ioprio, _, errno = unix.RawSyscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, uintptr(pid), 0); errno != 0 {
		l.ioprio = 0
	}
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return l, err
	}
	mask, err1 := status.Uint("Umask", 8)
	bound, err2 := status.Uint("CapBnd", 16)
	score, err3 := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	oom, err4 := strconv.Atoi(strings.TrimSpace(string(score)))
	groups, err5 := status.Numbers("Groups")
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return l, fmt.Errorf("what process %d has: %w", pid, err)
	}
	l.umask, l.capBound, l.oom, l.groups = int(mask), bound, oom, groups
	if l.limits, err = LimitsOf(pid); err != nil {
		return l, err
	}
	l.cgroups, err = cgroup.Of(pid)
	return l, err
}

// apply gives this thread, and what it starts, those attributes that need no system call of a
// plan.
func (l processAttrs) apply() error {
	if err := ResetAttrs(); err != nil {
		return err
	}
	switch l.sched.Policy {
	case unix.SCHED_NORMAL, unix.SCHED_BATCH, unix.SCHED_IDLE, unix.SCHED_FIFO, unix.SCHED_RR:
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: l.sched.Policy, Nice: l.sched.Nice, Priority: l.sched.Priority}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			return fmt.Errorf("take the job's priority: %w", err)
		}
	}
	return errors.Join(setIOPriority(l.ioprio), setOOM("self", l.oom))
}

// planAttrs plans the other attributes. They need the job's cgroup and user namespace, and the
// rights of root there. A limit above the agent's own is cut to that.
func (p *childPlan) planAttrs(l processAttrs) error {
	if l.cpus.Count() > 0 {
		cpus := l.cpus
		s := call("take the job's processors", unix.SYS_SCHED_SETAFFINITY, 0, int(unsafe.Sizeof(cpus)))
		s.mem[2] = unsafe.Pointer(&cpus)
		p.add(s)
	}
	for c := 0; c <= lastCapability(); c++ {
		if l.capBound&(1<<c) == 0 {
			p.add(call(fmt.Sprintf("drop capability %d", c), unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c))
		}
	}
	for _, limit := range l.limits {
		var ours unix.Rlimit
		if err := unix.Getrlimit(limit.Resource, &ours); err != nil {
			return err
		}
		lim := &unix.Rlimit{Max: min(limit.Hard, ours.Max)}
		lim.Cur = min(limit.Soft, lim.Max)
		s := call(fmt.Sprintf("set resource limit %d", limit.Resource), unix.SYS_PRLIMIT64, 0, limit.Resource)
		s.mem[2] = unsafe.Pointer(lim)
		p.add(s)
	}
	p.add(call("set the umask", unix.SYS_UMASK, l.umask))
	p.steps[len(p.steps)-1].want = anyResult
	return nil
}

// lastCapability is the last one that the kernel knows.
func lastCapability() int {
	for c := 63; c >= 0; c-- {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil {
			return c
		}
	}
	return -1
}

// DroppedCaps are the capabilities that no process of a job gets. In a user namespace CAP_SETGID
// could give up groups that close files to the job's user (user_namespaces(7)). A job of root has
// no such groups: outside it is no user of the node.
func DroppedCaps(uid uint32, userNS bool) []int {
	if userNS && uid != 0 {
		return []int{unix.CAP_SETGID}
	}
	return nil
}

// limitLabels are the names of resources in /proc/PID/limits (fs/proc/base.c, lnames).
var limitLabels = map[string]int{
	"Max cpu time": unix.RLIMIT_CPU, "Max file size": unix.RLIMIT_FSIZE, "Max data size": unix.RLIMIT_DATA, "Max stack size": unix.RLIMIT_STACK,
	"Max core file size": unix.RLIMIT_CORE, "Max resident set": unix.RLIMIT_RSS, "Max processes": unix.RLIMIT_NPROC, "Max open files": unix.RLIMIT_NOFILE,
	"Max locked memory": unix.RLIMIT_MEMLOCK, "Max address space": unix.RLIMIT_AS, "Max file locks": unix.RLIMIT_LOCKS, "Max pending signals": unix.RLIMIT_SIGPENDING,
	"Max msgqueue size": unix.RLIMIT_MSGQUEUE, "Max nice priority": unix.RLIMIT_NICE, "Max realtime priority": unix.RLIMIT_RTPRIO, "Max realtime timeout": unix.RLIMIT_RTTIME,
}

// LimitsOf reads a process's resource limits from /proc: prlimit(2) asks for
// CAP_SYS_RESOURCE where the process is another user's.
func LimitsOf(pid int) (limits []Rlimit, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return nil, fmt.Errorf("resource limits: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		for label, resource := range limitLabels {
			rest, ok := strings.CutPrefix(line, label+" ")
			if !ok {
				continue
			}
			f := strings.Fields(rest)
			if len(f) < 2 {
				return nil, fmt.Errorf("resource limits: strange line %q", line)
			}
			soft, err1 := parseLimit(f[0])
			hard, err2 := parseLimit(f[1])
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			limits = append(limits, Rlimit{Resource: resource, Soft: soft, Hard: hard})
		}
	}
	return limits, nil
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" {
		return unix.RLIM_INFINITY, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// ignoredSignals are those that this process ignores. What it executes ignores them too.
func ignoredSignals() (ignored []int, err error) {
	for sig := 1; sig <= lastSignal; sig++ {
		var now sigaction
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&now)), sigsetSize, 0, 0)
		if errno != 0 {
			return nil, fmt.Errorf("look at signal %d: %w", sig, errno)
		}
		if now.handler == sigIgnore {
			ignored = append(ignored, sig)
		}
	}
	return ignored, nil
}

const (
	lastSignal = 64
	sigIgnore  = 1
)

// sigaction is the kernel's on x86-64, see rt_sigaction(2). Zero is the default action.
type sigaction struct{ handler, flags, restorer, mask uintptr }

// defaultSignals resets ignored and blocked signals for what is executed next.
func defaultSignals() error {
	ignored, err := ignoredSignals()
	if err != nil {
		return err
	}
	for _, sig := range ignored {
		var usual sigaction
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&usual)), 0, sigsetSize, 0, 0); errno != 0 {
			return fmt.Errorf("no longer ignore signal %d: %w", sig, errno)
		}
	}
	return unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil)
}

func (p *childPlan) planSignals() error {
	ignored, err := ignoredSignals()
	usual := new(sigaction)
	for _, sig := range ignored {
		s := call(fmt.Sprintf("no longer ignore signal %d", sig), unix.SYS_RT_SIGACTION, sig, 0, 0, sigsetSize)
		s.mem[1] = unsafe.Pointer(usual)
		p.add(s)
	}
	return err
}

func emptyCapabilities() (*unix.CapUserHeader, *[2]unix.CapUserData) {
	return &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, new([2]unix.CapUserData)
}

// noCapabilities drops all capabilities of this thread.
func noCapabilities() error {
	head, sets := emptyCapabilities()
	if err := unix.Capset(head, &sets[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
