package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
)

var start = time.Date(2026, 3, 1, 11, 5, 0, 0, time.UTC)

func after(ms int) time.Time       { return start.Add(time.Duration(ms) * time.Millisecond) }
func lasting(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

// example is a move of three rounds with a downtime of 190 ms.
func example() api.MoveRecord {
	return api.MoveRecord{
		Move: "m0123456789abcdef", Job: "jk4m2q7x5zb", Name: "sim", From: "node-a", To: "node-b", Epoch: 2,
		Options: api.MoveOptions{MaxDowntime: lasting(200)}, Mode: api.ModePreCopy, State: api.MoveDone,
		Began: start, Took: lasting(4200), Frozen: after(3600), Resumed: after(3790), Downtime: lasting(190),
		Phases: []api.Span{
			{Phase: api.PhasePreflight, Began: after(0), Took: lasting(520)}, {Phase: api.PhaseWarmup, Began: after(520), Took: lasting(3080)},
			{Phase: api.PhaseFreeze, Began: after(3600), Took: lasting(8)}, {Phase: api.PhaseDump, Began: after(3608), Took: lasting(90)},
			{Phase: api.PhaseResidue, Began: after(3698), Took: lasting(30)}, {Phase: api.PhasePark, Began: after(3728), Took: lasting(50)},
			{Phase: api.PhaseCommit, Began: after(3778), Took: lasting(12)}, {Phase: api.PhaseResume, Began: after(3790), Took: lasting(10)},
			{Phase: api.PhaseRelease, Began: after(3800), Took: lasting(400)},
		},
		Rounds: []api.Round{
			{Number: 1, Began: after(550), Took: lasting(2000), Tracking: "hash", Scanned: 1 << 30, Dirty: 1 << 30, Zero: 1 << 28, Duplicate: 1 << 20, Wire: 400 << 20,
				ReadRate: 520e6, WireRate: 200e6, Forecast: lasting(2900), CPU: 100, Reason: "goes on: everything was new"},
			{Number: 2, Began: after(2560), Took: lasting(700), Tracking: "hash", Scanned: 1 << 30, Dirty: 42 << 20, Wire: 25 << 20,
				DirtyRate: 20e6, ReadRate: 1500e6, WireRate: 36e6, Forecast: lasting(310), CPU: 100, Reason: "goes on: 310 ms are above 200 ms"},
			{Number: 3, Began: after(3270), Took: lasting(320), Tracking: "hash", Scanned: 1 << 30, Dirty: 9 << 20, Wire: 5 << 20,
				DirtyRate: 18e6, ReadRate: 3000e6, WireRate: 16e6, Forecast: lasting(170), CPU: 60, Reason: "stops: 170 ms are within 200 ms"},
		},
		Memory: 1 << 30, Read: 3 << 30, Residue: 3 << 20, Sent: 430 << 20, Lanes: 4,
		Steps: []api.MoveStep{{Node: "node-a", Role: "source", State: "frozen", At: after(3600)}, {Node: "node-b", Role: "target", State: "done", At: after(3795)}},
	}
}

func written(t *testing.T, r api.MoveRecord) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r, start); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReportHasEveryNumberAndPicture(t *testing.T) {
	html := written(t, example())
	for _, want := range []string{
		"m0123456789abcdef", "jk4m2q7x5zb", "node-a → node-b: moved", "190 ms", "4.2 s", "430.0 MiB",
		"preflight", "warm-up", "residue", "<td>frozen</tr>", "goes on: everything was new", "60 %", "2.8 GiB/s",
		">downtime 190 ms</text>", ">runs on node-a</text>", "it runs on node-b", ">bytes per second</text>", ">200 ms</text>", ">--max-downtime</text>", ">warm-up round</text>",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(html, "<svg"); n != 3 {
		t.Errorf("%d pictures", n)
	}
}

func TestReportLoadsNothing(t *testing.T) {
	html := strings.ReplaceAll(written(t, example()), `xmlns="http://www.w3.org/2000/svg"`, "")
	for _, bad := range []string{"http:", "https:", "src=", "href", "<script", "@import", "url("} {
		if strings.Contains(html, bad) {
			t.Errorf("it holds %q", bad)
		}
	}
}

func TestReportPicturesAreWellFormedAndHaveThePagesColour(t *testing.T) {
	for _, f := range figures(example()) {
		dec := xml.NewDecoder(strings.NewReader(string(f.SVG)))
		for {
			_, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", f.Title, err)
			}
		}
		if !strings.Contains(string(f.SVG), "currentColor") || strings.Contains(string(f.SVG), "#010203") {
			t.Errorf("%s has an ink of its own", f.Title)
		}
	}
}

func TestReportEscapesTheRecord(t *testing.T) {
	r := example()
	const evil = `"><script>alert(1)</script><svg onload='x'>`
	r.Name, r.From, r.To, r.State, r.CleanupLeft, r.WaitFor, r.Partial = evil, evil, evil, evil, evil, evil, evil
	r.Error = &api.Error{Message: evil, Hint: evil, Where: evil, Findings: []api.Finding{{Code: evil, Cause: evil, Remedy: evil}}}
	r.Rounds[0].Reason, r.Rounds[0].Tracking, r.Phases[0].Phase, r.Steps[0].Note = evil, evil, evil, evil
	if html := written(t, r); strings.Contains(html, "<script") || strings.Contains(html, "onload='") {
		t.Error("markup of the record is in the page")
	}
}

func TestReportOfEveryEndAndEveryGap(t *testing.T) {
	aborted, frozen, early, bare, odd := example(), example(), example(), example(), example()
	aborted.State, aborted.Error = api.MoveAborted, &api.Error{Message: "no room"}
	frozen.Resumed, frozen.Downtime, frozen.State = time.Time{}, 0, api.MoveWaiting
	early.Phases, early.Rounds, early.Frozen, early.Resumed, early.Downtime = early.Phases[:1], nil, time.Time{}, time.Time{}, 0
	bare = api.MoveRecord{Move: bare.Move}
	for i := range odd.Rounds { // nothing measured
		odd.Rounds[i] = api.Round{Number: i + 1}
	}
	odd.Took, odd.Options.MaxDowntime = 0, 0
	many := example()
	for n := 4; n < 200; n++ {
		many.Rounds = append(many.Rounds, api.Round{Number: n, Began: after(550), Took: 1, ReadRate: 1, WireRate: 1e15})
	}
	for name, c := range map[string]struct {
		r    api.MoveRecord
		svgs int
		says string
	}{
		"aborted": {aborted, 3, "no room"}, "frozen": {frozen, 2, ">frozen</text>"}, "refused": {early, 1, "preflight"},
		"bare": {bare, 0, "m0123456789abcdef"}, "odd": {odd, 3, "0 B/s"}, "many": {many, 3, "199"},
	} {
		html := written(t, c.r)
		if n := strings.Count(html, "<svg"); n != c.svgs || !strings.Contains(html, c.says) {
			t.Errorf("%s: %d pictures, want %d with %q", name, n, c.svgs, c.says)
		}
		if regexp.MustCompile(`NaN|Inf`).MatchString(html) {
			t.Errorf("%s holds what is no number", name)
		}
	}
	if !strings.Contains(written(t, aborted), "runs on node-a</text>") {
		t.Error("an aborted move does not show the job on its source")
	}
}
