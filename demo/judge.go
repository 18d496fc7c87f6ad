package demo

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Stay is the job on one node, as that node's agent and kernel see it.
type Stay struct {
	Node         string
	PidOutside   int
	PidInside    int
	PidNamespace string
	ClockOffset  time.Duration // of the job's monotonic clock to the node's
}

// Move is one move, as the agents measured it.
type Move struct {
	From, To         string
	Froze            time.Time // the earliest moment at which the job stood still
	StoodStill, Took time.Duration
	Read, Sent       int64 // bytes
}

// Evidence is all that the demo has seen.
type Evidence struct {
	Memory int64    // bytes that the job holds
	Plan   []string // the nodes that the job was to be on, in order
	Lines  []Line   // followed live, across the moves
	Live   []byte   // the same, as it came
	File   []byte   // the whole output, read once more on the last node
	Stays  []Stay   // one more than moves
	Moves  []Move
}

// Check is one thing that the demo claims.
type Check struct {
	What, Found, Means string
	OK                 bool
}

// Judge compares what was seen with what must be.
func Judge(e Evidence) []Check {
	if len(e.Lines) == 0 {
		return []Check{{"counter", "no line", "the job has written nothing", false}}
	}
	return []Check{e.counter(), e.output(), e.clock(), e.memory(), e.pid(), e.host(), e.places()}
}

// Failed names the checks that did not hold.
func Failed(checks []Check) []string {
	var failed []string
	for _, c := range checks {
		if !c.OK {
			failed = append(failed, c.What+": "+c.Found)
		}
	}
	return failed
}

func (e Evidence) counter() Check {
	seen := map[int64]int{}
	top, doubles, back := int64(0), 0, 0
	for i, l := range e.Lines {
		if seen[l.Count]++; seen[l.Count] > 1 {
			doubles++
		}
		if i > 0 && l.Count < e.Lines[i-1].Count {
			back++
		}
		top = max(top, l.Count)
	}
	gaps := top
	for n := range seen {
		if n >= 1 {
			gaps--
		}
	}
	found := fmt.Sprintf("1 to %d: %d missing, %d twice", top, gaps, doubles)
	if back > 0 {
		found += fmt.Sprintf(", %d back", back)
	}
	return Check{"counter", found, "no line was lost or repeated", gaps == 0 && doubles == 0 && back == 0}
}

// output checks that what was followed live is what is in the file.
func (e Evidence) output() Check {
	c := Check{"output file", "same as followed live", "it travelled with the job", true}
	if !bytes.Equal(e.Live, e.File) {
		c.Found, c.OK = fmt.Sprintf("%d bytes, %d followed live", len(e.File), len(e.Live)), false
	}
	return c
}

func (e Evidence) clock() Check {
	var most time.Duration
	back := 0
	for i := 1; i < len(e.Lines); i++ {
		step := e.Lines[i].Clock - e.Lines[i-1].Clock
		most = max(most, step)
		if step <= 0 {
			back++
		}
	}
	return Check{"its own clock", fmt.Sprintf("%d times back, largest step %s", back, seconds(most)), "time went on where it stopped", back == 0}
}

// memory checks that all of it was compared after the last move.
func (e Evidence) memory() Check {
	after := e.Lines[e.after(len(e.Moves)-1):]
	var compared int64
	if len(after) > 0 {
		compared = after[len(after)-1].Checked - after[0].Checked
	}
	ok := compared >= e.Memory
	return Check{"memory", mebibytes(min(compared, e.Memory)) + " of " + mebibytes(e.Memory) + " compared", "every byte, after the last move", ok}
}

func (e Evidence) pid() Check {
	return same("pid in the job", "it still is the same process", e.Lines, func(l Line) string { return fmt.Sprint(l.Pid) })
}

func (e Evidence) host() Check {
	return same("hostname in the job", "names belong to the job", e.Lines, func(l Line) string { return l.Host })
}

func same(what, means string, lines []Line, of func(Line) string) Check {
	first := of(lines[0])
	for _, l := range lines {
		if got := of(l); got != first {
			return Check{what, fmt.Sprintf("%s, then %s", first, got), means, false}
		}
	}
	return Check{what, first + " in every line", means, true}
}

// places checks that the job has really been where it was sent, in a new process
// of the node each time.
func (e Evidence) places() Check {
	var been, namespaces []string
	ok := len(e.Moves) == len(e.Plan)-1 && len(e.Stays) == len(e.Plan)
	for i, s := range e.Stays {
		been = append(been, s.Node)
		ok = ok && s.Node == e.Plan[i] && s.PidInside == e.Lines[0].Pid
		ok = ok && (i == 0 || s.PidNamespace != e.Stays[i-1].PidNamespace)
		namespaces = append(namespaces, s.PidNamespace)
	}
	_ = namespaces
	return Check{"it has run on", strings.Join(been, ", "), "in new namespaces each time", ok}
}

// after is the index of the first line written after a move, by its number.
func (e Evidence) after(move int) int {
	if move < 0 {
		return 0
	}
	m := e.Moves[move]
	for i, l := range e.Lines {
		if l.Wall.After(m.Froze.Add(m.StoodStill / 2)) { // nothing is written while it stands still
			return i
		}
	}
	return len(e.Lines)
}
