package threads

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/procfs"
)

// usual is what a job's processes have that never asked for anything else.
type usual struct {
	cpus   affinity.Set
	filter uint32
}

// usualOf is what a job was given here. Its shim, the parent of its PID 1, has it too.
func usualOf(init int) (u usual, err error) {
	if u.cpus, err = affinity.Given(init); err != nil {
		return u, err
	}
	u.filter, err = coredumpFilter("self")
	if errors.Is(err, fs.ErrNotExist) { // no CONFIG_ELF_CORE: no process has one
		err = nil
	}
	return u, err
}

// attrsOf returns what of a thread is unusual.
func attrsOf(pid, tid int, u usual) (a attrs, err error) {
	cpus, err := affinity.Of(tid)
	if err != nil {
		return a, err
	}
	if cpus != u.cpus {
		a.CPUs = cpus
	}
	priority, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, uintptr(tid), 0)
	if errno != 0 && errno != unix.ENOSYS {
		return a, fmt.Errorf("I/O priority of thread %d: %w", tid, errno)
	}
	a.IOPriority = uint32(priority)
	slack, err := readNumber(fmt.Sprintf("/proc/%d/timerslack_ns", tid), 10)
	if errors.Is(err, fs.ErrPermission) { // the agent lacks CAP_SYS_NICE
		slack, err = namespaces.TimerSlack, nil
	}
	if err != nil {
		return a, err
	}
	if slack != namespaces.TimerSlack { // real time has none, 0
		a.TimerSlack = slack
	}
	personality, err := readNumber(fmt.Sprintf("/proc/%d/task/%d/personality", pid, tid), 16)
	if err != nil {
		return a, err
	}
	a.Personality = uint32(personality)
	text, err := readText(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid), 2048)
	if err != nil {
		return a, err
	}
	stat, err := procfs.ParseStat(text)
	if err != nil {
		return a, err
	}
	a.MCE = mceOf(stat.Flags)
	a.Policy, err = policyOf(pid, tid)
	return a, err
}

// Flags of a thread, see include/linux/sched.h.
const (
	flagMCEProcess = 0x80
	flagMCEEarly   = 0x08000000
)

func mceOf(flags uint64) mce {
	switch {
	case flags&flagMCEProcess == 0:
		return 0
	case flags&flagMCEEarly == 0:
		return mceLate
	}
	return mceEarly
}

const ioprioWhoProcess = 1 // see ioprio_set(2)

// numberOf is a thread's number in its own pid namespace, 0 if it has ended.
func numberOf(pid, tid int) (int, error) {
	status, err := procfs.ReadFields(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	if err != nil {
		return 0, err
	}
	if state := status["State"]; strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X") {
		return 0, nil
	}
	f := strings.Fields(status["NSpid"])
	if len(f) == 0 {
		return 0, errors.New("the kernel does not tell pids in namespaces (CONFIG_PID_NS)")
	}
	return strconv.Atoi(f[len(f)-1])
}

// mergesAny tells whether the kernel may merge any equal pages of a process. Older kernels do not
// say.
func mergesAny(pid int) (bool, error) {
	fields, err := procfs.ReadFields(fmt.Sprintf("/proc/%d/ksm_stat", pid))
	if errors.Is(err, fs.ErrNotExist) { // Linux before 6.1, or no CONFIG_KSM
		return false, nil
	}
	return strings.TrimSpace(fields["ksm_merge_any"]) == "yes", err
}

// errNoMemory is of a process that has ended.
var errNoMemory = errors.New("it has no memory any more")

func coredumpFilter(process string) (uint32, error) {
	n, err := readNumber("/proc/"+process+"/coredump_filter", 16)
	return uint32(n), err
}

// readNumber reads a file of the kernel that has one.
func readNumber(path string, base int) (uint64, error) {
	text, err := readText(path, 64)
	if err != nil {
		return 0, err
	}
	if text = strings.TrimSpace(text); text == "" {
		return 0, errNoMemory
	}
	n, err := strconv.ParseUint(text, base, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// readText reads a file of the kernel up to so many bytes, by as few system calls as can be: a job
// can have many threads, and is frozen.
func readText(path string, most int) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	buf := make([]byte, most)
	n, err := linux.RetryValue(func() (int, error) { return unix.Read(fd, buf) })
	_ = unix.Close(fd) // nothing was written
	if err != nil {
		return "", &os.PathError{Op: "read", Path: path, Err: err}
	}
	return string(buf[:n]), nil
}
