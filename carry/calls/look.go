package calls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
)

// sight is a thread that sleeps in a call with a limit.
type sight struct {
	call
	goesOn   uint64 // the number of the call, if the thread is in restart_syscall
	limit    time.Duration
	asleep   time.Duration // when it fell asleep, on our MONOTONIC
	switches uint64        // how often it has given its processor away
}

// look finds the threads of the job that sleep in such a call, by their number in the job, and
// compares the clocks of their processors. What has ended meanwhile is left out.
func look(processes func() ([]pidmap.Entry, error)) (map[int]sight, processorClocks, error) {
	type sleeper struct {
		sight
		at scheduled
	}
	sleepers, clocks := map[int]sleeper{}, processorClocks{}
	err := eachThread(processes, func(pid int, t pidmap.Thread) {
		s, ok := lookAt(pid, taskDir(pid, t.Host))
		if !ok {
			return
		}
		if at, err := readScheduled(taskDir(pid, t.Host)); err == nil {
			s.switches = at.switches
			sleepers[t.Job] = sleeper{s, at}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if len(sleepers) > 0 {
		clocks.compare()
	}
	seen := map[int]sight{}
	for thread, s := range sleepers {
		var known bool
		s.asleep, known = clocks.monotonic(s.at)
		if now := monotonic(); known && s.asleep <= now && s.asleep > now-s.limit-slack {
			seen[thread] = s.sight
		}
	}
	return seen, clocks, nil
}

// slack is how much later than its limit a call may end.
const slack = time.Second

// lookAt reads the call in which a thread is, if that has a limit.
func lookAt(pid int, dir string) (s sight, ok bool) {
	if s.call, ok = readCall(dir); !ok {
		return s, false
	}
	s.goesOn = s.number
	if s.number == unix.SYS_RESTART_SYSCALL {
		s.goesOn = restarted(dir, s.args)
	}
	l, ok := limitOf(s.goesOn, s.args)
	if !ok {
		return s, false
	}
	var err error
	s.limit, err = l.read(pid, s.args)
	return s, err == nil
}

// restarted tells which call goes on in a thread that a stop or a freeze had interrupted before. Its
// arguments are still there, and its functions are on the kernel's stack, but for those of a sleep: they
// belong to the scheduler.
func restarted(dir string, args [4]uint64) uint64 {
	const mostClocks = 16
	stack, err := os.ReadFile(dir + "/stack")
	switch {
	case err != nil || len(stack) == 0:
		return unix.SYS_RESTART_SYSCALL
	case bytes.Contains(stack, []byte("poll")):
		return unix.SYS_POLL
	case bytes.Contains(stack, []byte("futex")):
		return unix.SYS_FUTEX
	case args[0] < mostClocks: // no address of a timespec
		return unix.SYS_CLOCK_NANOSLEEP
	}
	return unix.SYS_NANOSLEEP
}

func readCall(dir string) (c call, ok bool) {
	text, err := os.ReadFile(dir + "/syscall")
	if err != nil {
		return c, false
	}
	return parseCall(string(text))
}

// filtered tells whether a process has seccomp filters.
func filtered(pid int) bool {
	status, err := procfs.ReadStatus(pid)
	return err != nil || status["Seccomp"] != "0"
}

// read reads the limit.
func (l limit) read(pid int, args [4]uint64) (time.Duration, error) {
	if l.milli {
		return time.Duration(int32(args[l.arg])) * time.Millisecond, nil
	}
	return readTimespec(pid, args[l.arg])
}

// parseCall parses /proc/PID/task/TID/syscall: the number, six arguments, the stack pointer, the
// program counter; "running", or -1 and the two pointers, outside of a call.
func parseCall(text string) (c call, ok bool) {
	f := strings.Fields(text)
	if len(f) != 9 {
		return c, false
	}
	var words [9]uint64
	for i, w := range f {
		var err error
		if words[i], err = strconv.ParseUint(w, 0, 64); err != nil {
			return c, false
		}
	}
	return call{number: words[0], args: [4]uint64(words[1:5]), ip: words[8]}, true
}

// scheduled is what the scheduler tells of a thread.
type scheduled struct {
	since     time.Duration // when it was last accounted for, on the clock of its processor
	switches  uint64
	processor int
}

func readScheduled(dir string) (s scheduled, err error) {
	text, err := os.ReadFile(dir + "/sched")
	if err != nil {
		return s, err
	}
	if s, err = parseScheduled(string(text)); err != nil {
		return s, err
	}
	s.processor, err = readProcessor(dir)
	return s, err
}

// parseScheduled parses /proc/PID/task/TID/sched.
func parseScheduled(text string) (s scheduled, err error) {
	found := 0
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "se.exec_start":
			whole, part, _ := strings.Cut(value, ".") // milliseconds, nanoseconds
			ms, err1 := strconv.ParseInt(whole, 10, 64)
			ns, err2 := strconv.ParseInt(part, 10, 64)
			s.since, err = time.Duration(ms)*time.Millisecond+time.Duration(ns), errors.Join(err, err1, err2)
			found++
		case "nr_voluntary_switches":
			var wrong error
			s.switches, wrong = strconv.ParseUint(value, 10, 64)
			err = errors.Join(err, wrong)
			found++
		}
	}
	if found != 2 {
		err = errors.Join(err, errors.New("the kernel does not tell when a thread fell asleep"))
	}
	return s, err
}

// readProcessor reads on which processor a thread last was.
func readProcessor(dir string) (int, error) {
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const processor = 36 // behind the name
	if len(f) <= processor {
		return 0, errors.New("the kernel does not tell a thread's processor")
	}
	return strconv.Atoi(f[processor])
}

// processorClocks are what the clocks of processors lack to MONOTONIC. Time that a processor spends on
// interrupts, or that a hypervisor takes from it, does not count on its clock.
type processorClocks map[int]time.Duration

// monotonic is when a thread was last accounted for. It is not known of a processor that was not
// compared.
func (c processorClocks) monotonic(s scheduled) (time.Duration, bool) {
	lack, known := c[s.processor]
	return s.since + lack, known
}

// compare finds it out for all processors that this process may use: a thread may wake on any.
func (c processorClocks) compare() {
	_ = osthread.Throwaway(func() error { // the thread is pinned
		var usable unix.CPUSet
		if err := unix.SchedGetaffinity(0, &usable); err != nil {
			return err
		}
		for cpu := range 8 * int(unsafe.Sizeof(usable)) {
			if !usable.IsSet(cpu) {
				continue
			}
			var set unix.CPUSet
			set.Set(cpu)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				continue
			}
			for range compareTries {
				before := monotonic()
				_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // has the scheduler account for the thread now
				me, err := readScheduled("/proc/thread-self")
				if err == nil && me.processor == cpu && monotonic()-before < mostOff {
					c[cpu] = before - me.since
					break
				}
			}
		}
		return nil
	})
}

const (
	// mostOff is how much a comparison may be off. A thread that loses its processor meanwhile tries
	// again.
	mostOff      = time.Millisecond
	compareTries = 8
)

func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail
	return time.Duration(ts.Nano())
}

// errAbsent is of a page that nobody may ask for: a job that stands still would wait for a file server,
// or for a thread of its own that hands out its memory.
var errAbsent = errors.New("the page is not in memory")

// readTimespec reads a timespec in the memory of a process. It waits for no more than this node.
func readTimespec(pid int, addr uint64) (time.Duration, error) {
	var raw [16]byte
	if !(isPresent(pid, addr) && isPresent(pid, addr+uint64(len(raw))-1)) {
		return 0, fmt.Errorf("memory of process %d at %#x: %w", pid, addr, errAbsent)
	}
	local := []unix.Iovec{{Base: &raw[0], Len: uint64(len(raw))}}
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(raw)}}, 0)
	if err != nil || n != len(raw) {
		return 0, fmt.Errorf("memory of process %d at %#x: %d bytes, %w", pid, addr, n, err)
	}
	sec, nsec := int64(binary.LittleEndian.Uint64(raw[:])), int64(binary.LittleEndian.Uint64(raw[8:]))
	if sec < 0 || nsec < 0 || nsec >= int64(time.Second) {
		return 0, fmt.Errorf("memory of process %d at %#x holds no time: %d s, %d ns", pid, addr, sec, nsec)
	}
	return time.Duration(min(sec, int64(longest/time.Second)))*time.Second + time.Duration(nsec), nil
}

// isPresent tells whether a page of a process is in memory, or swapped out: /proc/PID/pagemap.
func isPresent(pid int, addr uint64) bool {
	const entry, present, swapped = 8, 1 << 63, 1 << 62
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return false
	}
	defer f.Close()
	var raw [entry]byte
	_, err = f.ReadAt(raw[:], int64(addr/stream.PageSize*entry))
	return err == nil && binary.LittleEndian.Uint64(raw[:])&(present|swapped) != 0
}

// longest bounds a limit of time: 100 years.
const longest = 100 * 365 * 24 * time.Hour

func taskDir(pid, tid int) string { return fmt.Sprintf("/proc/%d/task/%d", pid, tid) }
