package timens

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnsupported is returned on a kernel without time namespaces (before 5.6, or built
// without CONFIG_TIME_NS).
var ErrUnsupported = errors.New("kernel has no time namespaces")

// Now reads the clocks as this process sees them. The three reads follow each other
// within microseconds.
func Now() Reading {
	return Reading{
		Monotonic: read(unix.CLOCK_MONOTONIC),
		Boottime:  read(unix.CLOCK_BOOTTIME),
		Realtime:  read(unix.CLOCK_REALTIME),
	}
}

// Host reads the clocks of the initial time namespace, which offsets count from. It
// differs from [Now] only if this process was itself started in a time namespace. A
// kernel without time namespaces has the initial one only.
func Host() (Reading, error) {
	mono, boot, err := Offsets(os.Getpid())
	if errors.Is(err, ErrUnsupported) {
		return Now(), nil
	}
	if err != nil {
		return Reading{}, err
	}
	return Now().In(-mono, -boot), nil
}

// Offsets reads the offsets of the time namespace that children of task pid live in.
// That is the task's own namespace unless it called unshare(CLONE_NEWTIME) itself and
// has not exec'ed since. pid may be a thread id.
func Offsets(pid int) (mono, boot time.Duration, err error) {
	text, err := os.ReadFile(offsetsPath(pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read clock offsets of task %d: %w", pid, missing(pid, err))
	}
	mono, boot, err = parse(string(text))
	if err != nil {
		return 0, 0, fmt.Errorf("read clock offsets of task %d: %w", pid, err)
	}
	return mono, boot, nil
}

// WriteOffsets sets the offsets of the time namespace that the calling thread has made
// with unshare(CLONE_NEWTIME) for its children. The thread must be locked
// (runtime.LockOSThread), and no task may have entered the namespace yet, or the kernel
// answers EACCES. A forked child enters at once. A child that shares this process's
// memory until its exec, as os/exec starts them, enters at the exec (seen on Linux 6.18;
// kernels before 6.2 leave it outside, so check with [Offsets] and the child's ns/time).
func WriteOffsets(mono, boot time.Duration) error {
	f, err := os.OpenFile(offsetsPath(unix.Gettid()), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write clock offsets: %w", missing(unix.Gettid(), err))
	}
	_, err = f.WriteString(format(mono, boot))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write clock offsets %v, %v: %w", mono, boot, err)
	}
	return nil
}

// The file exists for /proc/TID too, but not under /proc/PID/task/TID.
func offsetsPath(tid int) string { return fmt.Sprintf("/proc/%d/timens_offsets", tid) }

// missing tells a kernel without time namespaces from a task that is gone.
func missing(pid int, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, statErr := os.Stat(fmt.Sprintf("/proc/%d", pid)); statErr != nil {
		return err
	}
	return ErrUnsupported
}

func read(clock int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		// EFAULT and EINVAL are all that clock_gettime knows, and neither can be.
		panic(fmt.Sprintf("clock_gettime(%d): %v", clock, err))
	}
	return time.Duration(ts.Nano())
}

// format writes offsets as the kernel reads them: whole seconds rounded down, and
// nanoseconds from 0 to 999999999.
func format(mono, boot time.Duration) string {
	var b strings.Builder
	for _, line := range []struct {
		clock  string
		offset time.Duration
	}{{"monotonic", mono}, {"boottime", boot}} {
		sec, nsec := line.offset/time.Second, line.offset%time.Second
		if nsec < 0 {
			sec, nsec = sec-1, nsec+time.Second
		}
		fmt.Fprintf(&b, "%s %d %d\n", line.clock, sec, nsec)
	}
	return b.String()
}

func parse(text string) (mono, boot time.Duration, err error) {
	found := map[string]time.Duration{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		var clock string
		var sec, nsec int64
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %d", &clock, &sec, &nsec); err != nil {
			return 0, 0, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		offset, err := join(sec, nsec)
		if err != nil {
			return 0, 0, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		found[clock] = offset
	}
	mono, okMono := found["monotonic"]
	boot, okBoot := found["boottime"]
	if !okMono || !okBoot {
		return 0, 0, fmt.Errorf("a clock is missing in %q", text)
	}
	return mono, boot, lines.Err()
}

func join(sec, nsec int64) (time.Duration, error) {
	const limit = math.MaxInt64/int64(time.Second) - 1
	if sec > limit || sec < -limit || nsec < 0 || nsec >= int64(time.Second) {
		return 0, ErrRange
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec), nil
}
