package oracle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func ticks(n int) []string {
	lines := []string{"sysv key=5 shm=1 sem=2 msg=3", "ready"}
	for i := range n {
		ns := i * 10_000_000
		lines = append(lines, fmt.Sprintf("tick %d %d %d %d 1 0 node-a", i, 5+ns, 6+ns, 7+ns))
	}
	return lines
}

func text(lines []string) string { return strings.Join(lines, "\n") + "\n" }

func TestAFaultlessOutputIsReportedInFull(t *testing.T) {
	lines := append(ticks(100), "ok count=100 mem=7 failures=0")
	for i := 100; i < 200; i++ { // 330 ms later, with the wall clock set back
		ns := i*10_000_000 + 330_000_000
		lines = append(lines, fmt.Sprintf("tick %d %d %d %d 1 0 node-a", i, ns, ns, -ns))
	}
	r, err := Judge(text(append(lines, "bye")))
	if err != nil {
		t.Fatal(err)
	}
	if r.Ticks != 200 || r.Last.Counter != 199 || r.PID != 1 || r.Hostname != "node-a" || !r.Ready || !r.Bye || r.Cut {
		t.Errorf("report %+v", r)
	}
	if want := 340*time.Millisecond - 5; r.MaxMonotonic != want || r.MaxMonotonicAt != 100 {
		t.Errorf("largest step %v at %d, want %v at 100", r.MaxMonotonic, r.MaxMonotonicAt, want)
	}
	if r.IDs["sem"] != 2 || len(r.States) != 1 || r.States[0].Checks["mem"] != 7 {
		t.Errorf("ids %v, states %v", r.IDs, r.States)
	}
}

func TestEveryLostDoubledOrSwappedTickIsCaught(t *testing.T) {
	for i := 2; i < 22; i++ {
		lost := slices.Delete(ticks(21), i, i+1)
		doubled := slices.Insert(ticks(21), i, ticks(21)[i])
		swapped := ticks(21)
		swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
		for name, lines := range map[string][]string{"lost": lost, "doubled": doubled, "swapped": swapped} {
			if name == "swapped" && i == 2 {
				continue // "ready" may come after the first tick
			}
			if _, err := Judge(text(lines)); err == nil {
				t.Errorf("tick %d %s, and Judge is content", i-2, name)
			}
		}
	}
}

func TestEveryKindOfFaultIsNamed(t *testing.T) {
	for want, line := range map[string]string{
		"monotonic clock went back": "tick 3 1 999999999 0 1 0 node-a",
		"boottime clock went back":  "tick 3 999999999 1 0 1 0 node-a",
		"pid is 2":                  "tick 3 999999999 999999999 0 2 0 node-a",
		"hostname is":               "tick 3 999999999 999999999 0 1 0 node-b",
		"want 7":                    "tick 3 999999999",
		"no line of the oracle's":   "tick3 tick 4",
		"1 checks have failed":      "ok mem=1 failures=1",
		"invalid syntax":            "ok mem=x",
	} {
		_, err := Judge(text(append(ticks(3), line)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %q", line, err, want)
		}
	}
	if _, err := Judge(text([]string{"ready"})); err == nil {
		t.Error("an output without ticks passed")
	}
	if _, err := Judge(text(append(ticks(3), "bye", "ready"))); err == nil {
		t.Error("a line after the end passed")
	}
}

func TestALineThatIsBeingWrittenIsNotJudged(t *testing.T) {
	whole := text(ticks(5))
	for cut := 1; cut < 20; cut++ {
		r, err := Judge(whole[:len(whole)-cut])
		if err != nil || !r.Cut || r.Ticks != 4 {
			t.Errorf("cut by %d bytes: %+v, %v", cut, r, err)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(text(append(ticks(3), "ok count=3 failures=0", "bye")))
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Judge(s)
		if err == nil && r.Last.Counter != r.Ticks-1 {
			t.Errorf("%d ticks up to %d passed", r.Ticks, r.Last.Counter)
		}
	})
}
