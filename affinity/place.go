package affinity

import "fmt"

// Mode says what becomes of bound threads.
type Mode string

// The modes.
const (
	Map  Mode = "map"  // the same processors where the node gives them all, others where not
	Keep Mode = "keep" // the same processors or no move
	Drop Mode = "drop" // all processors that the node gives
)

// ParseMode reads a mode; "" is Map.
func ParseMode(text string) (Mode, error) {
	switch m := Mode(text); m {
	case "":
		return Map, nil
	case Map, Keep, Drop:
		return m, nil
	}
	return "", fmt.Errorf("%.20q: bound threads are treated by %s, %s or %s", text, Map, Keep, Drop)
}

// Placement is where the bound threads of a job go.
type Placement struct {
	Bound Set // what they were bound to, together
	Given Set // what the node gives to its jobs
	Mode  Mode
}

// Fits tells whether the threads can have the same processors.
func (p Placement) Fits() bool { return p.Bound.Within(p.Given) }

// Place returns the processors of a thread that was bound to c, a part of Bound.
func (p Placement) Place(c Set) Set {
	switch {
	case p.Mode == Drop || p.Given.Empty():
		return p.Given
	case p.Fits():
		return c
	}
	given := p.Given.numbers()
	var placed Set
	for i, n := range p.Bound.numbers() {
		if c.has(n) {
			placed.put(given[i%len(given)])
		}
	}
	return placed
}

// String says what becomes of them, "" if there are none.
func (p Placement) String() string {
	switch {
	case p.Bound.Empty():
		return ""
	case p.Mode == Drop:
		return fmt.Sprintf("threads bound to processors %.80s may run on all that the node gives", p.Bound)
	case p.Fits():
		return fmt.Sprintf("threads stay bound to processors %.80s", p.Bound)
	}
	return fmt.Sprintf("threads bound to processors %.80s are bound to %.80s", p.Bound, p.Place(p.Bound))
}
