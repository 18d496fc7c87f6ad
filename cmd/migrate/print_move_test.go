package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/testenv"
)

func exampleMove() api.MoveRecord {
	t := func(ms int) time.Time { return at(5).Add(time.Duration(ms) * time.Millisecond) }
	d := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	return api.MoveRecord{
		Move: "m0123456789abcdef", Job: "jk4m2q7x5zb", Name: "sim", UID: 1000, From: "node-a", To: "node-b", Epoch: 2,
		Options: api.MoveOptions{MaxDowntime: d(200), Throttle: true}, Mode: api.ModePreCopy, State: api.MoveDone,
		Began: t(0), Took: d(4200), Frozen: t(3600), Resumed: t(3790), Downtime: d(190),
		Phases: []api.Span{
			{Phase: api.PhasePreflight, Began: t(0), Took: d(120)}, {Phase: api.PhaseWarmup, Began: t(120), Took: d(3480)},
			{Phase: api.PhaseFreeze, Began: t(3600), Took: d(8)}, {Phase: api.PhaseDump, Began: t(3608), Took: d(90)}, {Phase: api.PhaseResidue, Began: t(3698), Took: d(30)},
			{Phase: api.PhasePark, Began: t(3728), Took: d(50)}, {Phase: api.PhaseCommit, Began: t(3778), Took: d(12)}, {Phase: api.PhaseResume, Began: t(3790), Took: d(10)},
			{Phase: api.PhaseRelease, Began: t(3800), Took: d(400)},
		},
		Rounds: []api.Round{
			{Number: 1, Began: t(150), Took: d(2600), Tracking: "hash", Scanned: 1 << 30, Dirty: 1 << 30, Zero: 1 << 28, Duplicate: 1 << 20, Wire: 400 << 20,
				ReadRate: 420e6, WireRate: 160e6, Forecast: d(900), CPU: 100, Reason: "goes on: everything was new"},
			{Number: 2, Began: t(2760), Took: d(800), Tracking: "hash", Scanned: 1 << 30, Dirty: 12 << 20, Wire: 5 << 20,
				DirtyRate: 5e6, ReadRate: 1400e6, WireRate: 6e6, Forecast: d(170), CPU: 60, Reason: "stops: 170 ms are within 200 ms"},
		},
		Memory: 1 << 30, Read: 2 << 30, Residue: 3 << 20, Sent: 408 << 20, Lanes: 4,
		Steps: []api.MoveStep{{Node: "node-a", Role: "source", State: "frozen", At: t(3600)}, {Node: "node-a", Role: "source", State: "committed", At: t(3780)},
			{Node: "node-b", Role: "target", State: "done", At: t(3795)}, {Node: "node-a", Role: "source", State: "released", At: t(4190)}},
	}
}

func TestInspectMovePrintsTables(t *testing.T) {
	var b bytes.Buffer
	if err := printMove(&b, exampleMove()); err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "move.txt", b.Bytes())
}

func TestInspectMoveSaysWhyItFailedAndWhatIsNotKnown(t *testing.T) {
	r := exampleMove()
	r.State, r.Error, r.Partial = api.MoveAborted, &api.Error{Message: "dump failed\nCRIU's log:\n  Error (x)"}, "only the journal knows of it"
	var b bytes.Buffer
	if err := printMove(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"aborted", "dump failed\n", "CRIU's log:", "Error (x)", "only the journal"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

func TestInspectFindsAMoveElseAJob(t *testing.T) {
	a := newFakeAgent(t)
	a.record = exampleMove()
	for ref, want := range map[string]string{"m0123456789abcdef": `"from": "node-a"`, "sim": `"state": "running"`, "mffffffffffffffff": `"state": "running"`} {
		c, out, errs := newCLI(a)
		if code := c.execute(t.Context(), []string{"inspect", "--json", ref}); code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit %d, %s%s", ref, code, out, errs)
		}
	}
}

func TestMovesPrintsOneLineEachWithWhatItWaitsFor(t *testing.T) {
	var b bytes.Buffer
	err := printMoves(&b, []api.MoveSummary{
		{Move: "m0123456789abcdef", Job: "jk4m2q7x5zb", Name: "sim", Role: "source", Peer: "node-b", State: "committed", Since: at(20), WaitFor: "node-b to run the job"},
		{Move: "m1111111111111111", State: "damaged", WaitFor: "an operator"},
		{Move: "m2222222222222222", Job: "jk4m2q7x5zb", Role: "source", Peer: "node-b", State: "aborted", Since: at(3), Finished: true, Note: "no\nroom"},
	}, at(30))
	if err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "moves.txt", b.Bytes())
}
