package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/e2e/oracle"
)

// downtime is the longest time in which the job did not tick.
type downtime struct {
	length   time.Duration // less a normal step
	from, to time.Time     // the ticks before and after
}

// findDowntime reads the job's output, judges it, and finds the longest step from one
// tick to the next that ended after a move had begun.
func findDowntime(stdout string, began time.Time) (downtime, error) {
	if _, err := oracle.Judge(stdout); err != nil {
		return downtime{}, fmt.Errorf("the job came to harm: %w", err)
	}
	ticks := tickTimes(stdout)
	if len(ticks) < 2 || !ticks[len(ticks)-1].After(began) {
		return downtime{}, errors.New("the job has not ticked after the move")
	}
	var s downtime
	var steps []time.Duration
	for i := 1; i < len(ticks); i++ {
		step := ticks[i].Sub(ticks[i-1])
		steps = append(steps, step)
		if ticks[i].After(began) && step > s.length {
			s = downtime{step, ticks[i-1], ticks[i]}
		}
	}
	slices.Sort(steps)
	s.length -= steps[len(steps)/2]
	return s, nil
}

// tickTimes are the wall clock's readings in the job's whole lines.
func tickTimes(stdout string) []time.Time {
	var times []time.Time
	for line := range strings.Lines(stdout) {
		var count, mono, boot, real int64
		if !strings.HasSuffix(line, "\n") {
			continue
		}
		if _, err := fmt.Sscanf(line, "tick %d %d %d %d", &count, &mono, &boot, &real); err == nil {
			times = append(times, time.Unix(0, real))
		}
	}
	return times
}

// loopWindow is how long a loop is watched before a move; leastLoops is the number of its
// lines that tell a rate.
const (
	loopWindow = 3 * time.Second
	leastLoops = 20
)

// loopRate is how often the job's loop went round per second between two times; 0 if too
// few of its lines lie between them.
func loopRate(lines []oracle.Loops, from, to time.Time) float64 {
	lines = slices.DeleteFunc(slices.Clone(lines), func(l oracle.Loops) bool {
		return int64(l.Realtime) < from.UnixNano() || int64(l.Realtime) > to.UnixNano()
	})
	if len(lines) < leastLoops {
		return 0
	}
	first, last := lines[0], lines[len(lines)-1]
	return float64(last.Count-first.Count) / (last.Realtime - first.Realtime).Seconds()
}
