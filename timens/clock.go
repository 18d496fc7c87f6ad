package timens

import (
	"fmt"
	"time"
)

// Reading is what the three clocks showed at one moment: nanoseconds since the start
// of the node (Monotonic, Boottime) and since 1970 (Realtime).
type Reading struct {
	Monotonic time.Duration `json:"monotonic"`
	Boottime  time.Duration `json:"boottime"`
	Realtime  time.Duration `json:"realtime"`
}

// In returns the same moment as a time namespace with the given offsets shows it.
// A sum beyond what a Duration holds is cut there.
func (r Reading) In(mono, boot time.Duration) Reading {
	r.Monotonic = add(r.Monotonic, mono)
	r.Boottime = add(r.Boottime, boot)
	return r
}

// Mode says what a job's clocks do while it is on its way.
type Mode int

const (
	Continuous Mode = iota // they stand still: the job does not see the move
	Elapsed                // they go on: the job sees the true time away
)

var modeNames = map[Mode]string{Continuous: "continuous", Elapsed: "elapsed"}

// ParseMode reads "continuous" or "elapsed".
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return m, nil
		}
	}
	return Continuous, fmt.Errorf("clock mode %q is not known: type continuous or elapsed", s)
}

func (m Mode) String() string {
	if name, ok := modeNames[m]; ok {
		return name
	}
	return fmt.Sprintf("mode(%d)", int(m))
}

// MarshalText writes the name that [ParseMode] reads.
func (m Mode) MarshalText() ([]byte, error) {
	if _, ok := modeNames[m]; !ok {
		return nil, fmt.Errorf("clock mode %d has no name", int(m))
	}
	return []byte(m.String()), nil
}

// UnmarshalText is [ParseMode].
func (m *Mode) UnmarshalText(text []byte) error {
	parsed, err := ParseMode(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}
