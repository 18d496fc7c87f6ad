package preflight

import (
	"fmt"
	"time"
)

// Code names a kind of finding. It is stable: scripts may branch on it.
type Code string

// Finding is one reason why a move would fail.
type Finding struct {
	Code   Code   `json:"code"`
	Cause  string `json:"cause"`  // what is in the way, and why that matters
	Remedy string `json:"remedy"` // what to do about it, with the command to type where there is one
}

// MaxBehind is how far a target's clock may be behind the source's. A job that
// meets an earlier time of day than it has seen may take its own files and
// timers for those of the future.
const MaxBehind = 500 * time.Millisecond

// Skew judges the target's time of day minus ours. nil means that it will do.
func Skew(d time.Duration) *Finding {
	if d >= -MaxBehind {
		return nil
	}
	return &Finding{ClockBehind,
		fmt.Sprintf("the target's clock is %v behind this node's, and the job would see the time of day step back", (-d).Round(time.Millisecond)),
		"set the clocks of both nodes by one source: `timedatectl set-ntp true` or `chronyc makestep` on the target"}
}
