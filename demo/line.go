package demo

import (
	"fmt"
	"time"
)

// Line is what the job prints at each tick.
type Line struct {
	Count   int64
	Pid     int           // as the job itself sees it
	Host    string        // its hostname
	Clock   time.Duration // its CLOCK_MONOTONIC
	Wall    time.Time     // the time of day, to ns
	Checked int64         // bytes of memory compared since the start
}

const lineFormat = "count %d pid %d host %s clock %d wall %d checked %d\n"

func (l Line) String() string {
	return fmt.Sprintf(lineFormat, l.Count, l.Pid, l.Host, l.Clock.Nanoseconds(), l.Wall.UnixNano(), l.Checked)
}

// parseLine reads one whole line, its newline included, and nothing else.
func parseLine(s string) (Line, error) {
	var l Line
	var clock, wall int64
	_, err := fmt.Sscanf(s, lineFormat, &l.Count, &l.Pid, &l.Host, &clock, &wall, &l.Checked)
	l.Clock, l.Wall = time.Duration(clock), time.Unix(0, wall)
	if err == nil && l.String() != s {
		err = fmt.Errorf("it is not in the form that the job writes")
	}
	if err != nil {
		return Line{}, fmt.Errorf("the job's output has the line %q: %w", s, err)
	}
	return l, nil
}
