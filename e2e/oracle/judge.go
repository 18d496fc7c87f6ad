package oracle

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Tick is one line of --count.
type Tick struct {
	Counter                       int64
	Monotonic, Boottime, Realtime time.Duration
	PID, PPID                     int
	Hostname                      string
}

// Loops is one line of --spin: how often its loop has gone round at a time of REALTIME.
type Loops struct {
	Count    int64
	Realtime time.Duration
}

// State is one line that SIGUSR1 asked for: the checks made so far, by kind.
type State struct {
	Checks   map[string]int64
	Failures int64
}

// Report is what a job's output says.
type Report struct {
	Ticks       int64
	First, Last Tick
	// The largest steps from one tick to the next; MaxMonotonicAt is the counter of the
	// tick after the largest monotonic one. A step of REALTIME may be negative.
	MaxMonotonic, MaxBoottime, MaxRealtime time.Duration
	MaxMonotonicAt                         int64

	PID      int
	Hostname string
	States   []State
	Loops    []Loops
	// What the lines "sysv" and "tcp" hold, by name: key, shm, sem, msg, port.
	IDs        map[string]int64
	Ready, Bye bool
	// Cut says that the output ends within a line, as it may while the job writes. That
	// line is not judged.
	Cut bool
}

// most bounds the number of faults that one error lists.
const most = 10

// Judge reads the standard output of a job that ran with --count, from its first byte.
// The error lists what must not be: a gap, a tick that came twice, a clock that went
// back, another pid or hostname, a line that is none of the oracle's, failed checks, no
// tick at all. The report holds what could be read, also next to an error.
func Judge(stdout string) (Report, error) {
	r := Report{IDs: map[string]int64{}}
	var faults []error
	number := 0
	for line := range strings.Lines(stdout) {
		number++
		text, whole := strings.CutSuffix(line, "\n")
		if !whole {
			r.Cut = true
			break
		}
		if err := r.line(text); err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", number, err))
		}
		if len(faults) == most {
			break
		}
	}
	if r.Ticks == 0 {
		faults = append(faults, errors.New("the job has not ticked"))
	}
	return r, errors.Join(faults...)
}

func (r *Report) line(text string) error {
	if r.Bye {
		return fmt.Errorf("%q comes after the end", text)
	}
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "tick":
		tick, err := parseTick(rest)
		if err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		return r.tick(tick)
	case "ok":
		return r.state(rest)
	case "sysv", "tcp":
		return pairs(rest, r.IDs)
	case "loops":
		l, err := parseLoops(rest)
		r.Loops = append(r.Loops, l)
		return err
	case "ready":
		r.Ready = true
		return nil
	case "bye":
		r.Bye = true
		return nil
	}
	return fmt.Errorf("%q is no line of the oracle's", text)
}

// tick judges a tick against the one before and becomes it.
func (r *Report) tick(t Tick) error {
	last := r.Last
	r.Last = t
	r.Ticks++
	if r.Ticks == 1 {
		r.First, r.PID, r.Hostname = t, t.PID, t.Hostname
		if t.Counter != 0 {
			return fmt.Errorf("the first tick is %d, want 0", t.Counter)
		}
		return nil
	}
	step := t.Monotonic - last.Monotonic
	if step > r.MaxMonotonic {
		r.MaxMonotonic, r.MaxMonotonicAt = step, t.Counter
	}
	r.MaxBoottime = max(r.MaxBoottime, t.Boottime-last.Boottime)
	r.MaxRealtime = max(r.MaxRealtime, t.Realtime-last.Realtime)
	return r.follows(last, t)
}

func (r *Report) follows(last, t Tick) error {
	switch {
	case t.Counter > last.Counter+1:
		return fmt.Errorf("gap: tick %d follows %d", t.Counter, last.Counter)
	case t.Counter <= last.Counter:
		return fmt.Errorf("double: tick %d follows %d", t.Counter, last.Counter)
	case t.Monotonic < last.Monotonic:
		return fmt.Errorf("tick %d: monotonic clock went back by %v", t.Counter, last.Monotonic-t.Monotonic)
	case t.Boottime < last.Boottime:
		return fmt.Errorf("tick %d: boottime clock went back by %v", t.Counter, last.Boottime-t.Boottime)
	case t.PID != r.PID:
		return fmt.Errorf("tick %d: pid is %d, was %d", t.Counter, t.PID, r.PID)
	case t.Hostname != r.Hostname:
		return fmt.Errorf("tick %d: hostname is %q, was %q", t.Counter, t.Hostname, r.Hostname)
	}
	return nil
}

func (r *Report) state(rest string) error {
	s := State{Checks: map[string]int64{}}
	if err := pairs(rest, s.Checks); err != nil {
		return err
	}
	s.Failures = s.Checks["failures"]
	delete(s.Checks, "failures")
	r.States = append(r.States, s)
	if s.Failures != 0 {
		return fmt.Errorf("%d checks have failed", s.Failures)
	}
	return nil
}

func parseTick(rest string) (Tick, error) {
	fields := strings.SplitN(rest, " ", 7)
	if len(fields) != 7 {
		return Tick{}, fmt.Errorf("%d fields, want 7", len(fields))
	}
	var n [6]int64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return Tick{}, err
		}
	}
	return Tick{Counter: n[0], Monotonic: time.Duration(n[1]), Boottime: time.Duration(n[2]),
		Realtime: time.Duration(n[3]), PID: int(n[4]), PPID: int(n[5]), Hostname: fields[6]}, nil
}

func parseLoops(rest string) (l Loops, err error) {
	_, err = fmt.Sscanf(rest, "%d %d", &l.Count, &l.Realtime)
	return l, err
}

// pairs reads "name=number …" into a map.
func pairs(rest string, into map[string]int64) error {
	for _, pair := range strings.Fields(rest) {
		name, value, _ := strings.Cut(pair, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%q: %w", pair, err)
		}
		into[name] = n
	}
	return nil
}
