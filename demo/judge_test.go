package demo

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

// witnessed is what a demo of two moves sees when all goes well.
func witnessed() Evidence {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	e := Evidence{Memory: 256 << 20, Plan: []string{nameA, nameB, nameA}}
	wall, clock := began, 1000*time.Second
	for n := range int64(36) {
		if n == 8 || n == 14 {
			m := Move{From: nameA, To: nameB, Froze: wall.Add(-50 * time.Millisecond), Downtime: 300 * time.Millisecond,
				Took: 412 * time.Millisecond, Read: 257<<20 + 300<<10, Sent: 131 << 20}
			if n == 14 {
				m.From, m.To = m.To, m.From
			}
			e.Moves = append(e.Moves, m)
			wall = wall.Add(m.Downtime)
		}
		e.Lines = append(e.Lines, Line{Count: n + 1, Pid: 1, Host: "counter", Clock: clock, Wall: wall, Checked: (n + 1) * 16 << 20})
		wall, clock = wall.Add(tick), clock+tick
	}
	e.Live = text(e.Lines)
	e.File = slices.Clone(e.Live)
	e.Placements = []Placement{
		{nameA, 4711, 1, "pid:[4026532281]", 0},
		{nameB, 5021, 1, "pid:[4026532405]", -300 * time.Millisecond},
		{nameA, 5333, 1, "pid:[4026532283]", -600 * time.Millisecond},
	}
	return e
}

func text(lines []Line) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l.String())
	}
	return b.Bytes()
}

func TestJudgeClaimsWhatHeld(t *testing.T) {
	if failed := Failed(Judge(witnessed())); len(failed) > 0 {
		t.Error(failed)
	}
}

func TestJudgeFindsEachFailure(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Evidence)
		check string
	}{
		"nothing was written":         {func(e *Evidence) { e.Lines = nil }, "its counter"},
		"a line is missing":           {func(e *Evidence) { e.Lines = slices.Delete(e.Lines, 8, 9) }, "its counter"},
		"the first line is missing":   {func(e *Evidence) { e.Lines = e.Lines[1:] }, "its counter"},
		"a line is there twice":       {func(e *Evidence) { e.Lines = slices.Insert(e.Lines, 8, e.Lines[7]) }, "its counter"},
		"the job went back":           {func(e *Evidence) { e.Lines[8], e.Lines[9] = e.Lines[9], e.Lines[8] }, "its counter"},
		"the file lost its end":       {func(e *Evidence) { e.File = e.File[:len(e.File)-1] }, "its output"},
		"the file was changed":        {func(e *Evidence) { e.File[5] ^= 1 }, "its output"},
		"the clock went back":         {func(e *Evidence) { e.Lines[8].Clock = e.Lines[7].Clock - 1 }, "its clock"},
		"the clock stood":             {func(e *Evidence) { e.Lines[8].Clock = e.Lines[7].Clock }, "its clock"},
		"not all memory was compared": {func(e *Evidence) { e.Lines = e.Lines[:len(e.Lines)-6] }, "its memory"},
		"memory only before the move": {func(e *Evidence) { e.Lines = e.Lines[:14] }, "its memory"},
		"another pid":                 {func(e *Evidence) { e.Lines[20].Pid = 2 }, "its pid"},
		"another hostname":            {func(e *Evidence) { e.Lines[20].Host = "node-b" }, "its hostname"},
		"it never left":               {func(e *Evidence) { e.Placements[1].Node = nameA }, "it ran on"},
		"a move is missing":           {func(e *Evidence) { e.Moves = e.Moves[:1] }, "it ran on"},
		"one stay too many":           {func(e *Evidence) { e.Placements = append(e.Placements, e.Placements[1]) }, "it ran on"},
		"the same namespace":          {func(e *Evidence) { e.Placements[1].PidNamespace = e.Placements[0].PidNamespace }, "it ran on"},
	} {
		t.Run(name, func(t *testing.T) {
			e := witnessed()
			c.spoil(&e)
			failed := Failed(Judge(e))
			if !slices.ContainsFunc(failed, func(f string) bool { return strings.HasPrefix(f, c.check+":") }) {
				t.Errorf("%s is not among what failed: %q", c.check, failed)
			}
		})
	}
}

func TestReportReadsAsItDid(t *testing.T) {
	bad := witnessed()
	bad.Lines = slices.Delete(bad.Lines, 8, 10)
	bad.Lines[3].Pid = 17
	bad.Lines = bad.Lines[:20]
	bad.Placements = bad.Placements[:2]
	for name, e := range map[string]Evidence{"held.txt": witnessed(), "failed.txt": bad} {
		var got bytes.Buffer
		d := demo{screen: &screen{w: &got}}
		d.report(e, Judge(e))
		testenv.Golden(t, name, got.Bytes())
		for l := range strings.Lines(got.String()) {
			if len(l) > width+1 {
				t.Errorf("%s: %d characters are too many for a terminal: %s", name, len(l), l)
			}
		}
	}
}

func TestJudgeFindsTheFirstLineAfterAMove(t *testing.T) {
	e := witnessed()
	for move, want := range []int{8, 14} {
		if got := e.after(move); got != want {
			t.Errorf("move %d ends before line %d, not %d", move, got, want)
		}
	}
	if got := e.after(-1); got != 0 {
		t.Errorf("without a move every line comes after it, not those from %d on", got)
	}
}
