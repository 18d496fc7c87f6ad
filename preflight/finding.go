package preflight

import (
	"fmt"
	"strings"
	"time"
)

// Finding is one reason why a move would fail.
type Finding struct {
	Code   Code   `json:"code"`
	Cause  string `json:"cause"`  // what is in the way, and why that matters
	Remedy string `json:"remedy"` // what to do about it, with the command to type where there is one
}

// MaxBehind is how far a target's clock may be behind the source's. A job that sees an earlier
// time of day than before may misjudge its own files and timers.
const MaxBehind = 500 * time.Millisecond

// CheckClocks judges the target's time of day minus ours. nil means that it will do.
func CheckClocks(d time.Duration) *Finding {
	if d >= -MaxBehind {
		return nil
	}
	return &Finding{ClockBehind,
		fmt.Sprintf("the target's clock is %v behind this node's, and the job would see the time of day step back", (-d).Round(time.Millisecond)),
		"set the clocks of both nodes by one source: `timedatectl set-ntp true` or `chronyc makestep` on the target"}
}

// CheckBinding judges a target that does not bind threads: its migrate is older. nil means that it
// will do.
func CheckBinding(n Needs, binds bool) *Finding {
	if binds || !n.KeepCPUs || n.CPUs.Empty() {
		return nil
	}
	return &Finding{CPUsMissing,
		fmt.Sprintf("threads of the job are bound to processors %.200s, and the migrate of the target is older and does not bind them", n.CPUs),
		"upgrade migrate there, or let them run on all processors: `migrate move --affinity drop JOB NODE`"}
}

// perCode is how many findings of one code are spelt out. A job of a thousand tasks with the same
// GPU open needs to hear of it only a few times.
const perCode = 5

// report collects findings.
type report struct {
	list   []Finding
	known  map[Finding]bool
	counts map[Code]int
}

func (r *report) add(code Code, remedy, cause string, args ...any) {
	f := Finding{code, fmt.Sprintf(cause, args...), remedy}
	if r.known[f] {
		return
	}
	if r.known == nil {
		r.known, r.counts = map[Finding]bool{}, map[Code]int{}
	}
	r.known[f] = true
	r.counts[code]++
	if r.counts[code] <= perCode {
		r.list = append(r.list, f)
	}
}

// findings ends the report: the last one of each code that was cut short tells
// how many more there are.
func (r *report) findings() []Finding {
	last := map[Code]int{}
	for i, f := range r.list {
		last[f.Code] = i
	}
	for code, n := range r.counts {
		if n > perCode {
			r.list[last[code]].Cause += fmt.Sprintf("; and %d more of this kind", n-perCode)
		}
	}
	return r.list
}

// quoted makes a path fit for a command line of a remedy.
func quoted(path string) string {
	if strings.Trim(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+@:,") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

const rightsRemedy = "have the path lead to the job's own file, and give the user the right to it and to the directories above (`namei -l PATH` shows who may pass), or have the job close it"

const sandboxRemedy = "run the program without its sandbox or container (bubblewrap, Apptainer, unshare), such as `chromium --no-sandbox`"
