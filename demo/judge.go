package demo

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Placement is the job on one node, as that node's agent and kernel see it.
type Placement struct {
	Node         string
	PidOutside   int
	PidInside    int
	PidNamespace string
	ClockOffset  time.Duration // of the job's monotonic clock to the node's
}

// Move is one move, as the agents measured it.
type Move struct {
	From, To       string
	Froze          time.Time // the earliest moment at which the job was frozen
	Downtime, Took time.Duration
	Read, Sent     int64 // bytes
}

// Evidence is all that the demo has seen.
type Evidence struct {
	Memory     int64       // bytes that the job holds
	Plan       []string    // the nodes that the job was to be on, in order
	Lines      []Line      // followed live, across the moves
	Live       []byte      // the same, as it came
	File       []byte      // the whole output, read once more on the last node
	Placements []Placement // one more than moves
	Moves      []Move
}

// Check is one thing that the demo claims.
type Check struct {
	What, Found, Means string
	OK                 bool
}

// Judge compares the evidence with what must hold.
func Judge(e Evidence) []Check {
	if len(e.Lines) == 0 {
		return []Check{{"its counter", "no line", "it has written nothing", false}}
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
	found := fmt.Sprintf("1 to %d, %d missing, %d twice", top, gaps, doubles)
	if back > 0 {
		found += fmt.Sprintf(", %d back", back)
	}
	return Check{"its counter", found, "no line lost or repeated", gaps == 0 && doubles == 0 && back == 0}
}

// output checks that what was followed live is what is in the file.
func (e Evidence) output() Check {
	c := Check{"its output", "file is what was seen live", "it travels with the job", true}
	if !bytes.Equal(e.Live, e.File) {
		c.Found, c.OK = fmt.Sprintf("file is not what was seen live, %d and %d bytes", len(e.File), len(e.Live)), false
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
	return Check{"its clock", fmt.Sprintf("%d times back, steps to %s", back, seconds(most)), "it only goes forward", back == 0}
}

// memory checks that all of it was compared after the last move.
func (e Evidence) memory() Check {
	after := e.Lines[e.after(len(e.Moves)-1):]
	var compared int64
	if len(after) > 0 {
		compared = after[len(after)-1].Checked - after[0].Checked
	}
	ok := compared >= e.Memory
	found := mebibytes(e.Memory) + " compared"
	if !ok {
		found = mebibytes(compared) + " of " + found
	}
	return Check{"its memory", found, "every byte, after moving", ok}
}

func (e Evidence) pid() Check {
	return same("its pid", "still the same process", e.Lines, func(l Line) string { return fmt.Sprint(l.Pid) })
}

func (e Evidence) host() Check {
	return same("its hostname", "names are the job's own", e.Lines, func(l Line) string { return l.Host })
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

// places checks that the job was on each node of the plan, as a new process each time.
func (e Evidence) places() Check {
	var been []string
	ok := len(e.Moves) == len(e.Plan)-1 && len(e.Placements) == len(e.Plan)
	for i, st := range e.Placements {
		been = append(been, st.Node)
		ok = ok && i < len(e.Plan) && st.Node == e.Plan[i] && st.PidInside == e.Lines[0].Pid
		ok = ok && (i == 0 || st.PidNamespace != e.Placements[i-1].PidNamespace)
	}
	found := strings.Join(been, ", ")
	if ok && len(been) > 3 {
		found = fmt.Sprintf("both nodes in turn, %d times", len(been))
	}
	return Check{"it ran on", found, "new namespaces each time", ok}
}

// after is the index of the first line written after a move, by its number.
func (e Evidence) after(move int) int {
	if move < 0 {
		return 0
	}
	m := e.Moves[move]
	for i, l := range e.Lines {
		if l.Wall.After(m.Froze.Add(m.Downtime / 2)) { // nothing is written in the downtime
			return i
		}
	}
	return len(e.Lines)
}
