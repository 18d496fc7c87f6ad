package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"

	"github.com/migrate-hpc/migrate/agent/api"
)

func moved() []api.Event {
	return []api.Event{
		{Phase: api.PhaseWarmup, Read: 1 << 20, Total: 4 << 20},
		{Phase: api.PhasePark, Read: 4 << 20, Total: 4 << 20, Sent: 2 << 20},
		{Done: &api.Result{Job: "jabcdefghij", Node: "node-b", Dir: "/d", Downtime: 212 * time.Millisecond, Took: 3100 * time.Millisecond, Read: 4 << 20, Sent: 2 << 20,
			Mode: api.ModePreCopy, Rounds: make([]api.Round, 2)}},
	}
}

// do runs one command line against an agent that tells these events.
func do(t *testing.T, events []api.Event, line string) (code int, out, errs string, request map[string]any) {
	t.Helper()
	a := newFakeAgent(t)
	a.events = events
	c, o, e := newCLI(a)
	code = c.execute(t.Context(), strings.Fields(line))
	if len(a.request) > 0 {
		if err := json.Unmarshal(a.request, &request); err != nil {
			t.Fatal(err)
		}
	}
	return code, o.String(), e.String(), request
}

func TestMovePrintsOneLine(t *testing.T) {
	code, out, errs, request := do(t, moved(), "move --connections 4 sim node-b=10.0.0.2:7707")
	if want := "job jabcdefghij moved to node-b (pre-copy, 2 rounds): downtime 212 ms, whole move 3.1 s, 4.0 MiB read, 2.0 MiB sent\n"; code != 0 || out != want || errs != "" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if request["node"] != "node-b" || request["addr"] != "10.0.0.2:7707" || request["connections"] != 4.0 {
		t.Errorf("asked for %v", request)
	}
}

func TestMoveOptionsReachTheAgent(t *testing.T) {
	line := "move --max-downtime 1.5s --throttle --post-copy --force --verify --bandwidth 100M sim node-b"
	_, _, _, got := do(t, moved(), line)
	want := map[string]any{"node": "node-b", "max_downtime": 1.5e9, "throttle": true, "post_copy": true, "force": true, "verify": true, "bandwidth": float64(100 << 20)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %v", got)
	}
}

func TestMoveOptionsThatContradictAreUsageErrors(t *testing.T) {
	for line, word := range map[string]string{
		"--max-downtime 0s":             "more than nothing",
		"--max-downtime -1s":            "more than nothing",
		"--eager --post-copy":           "name one of them",
		"--stop-copy --throttle":        "no rounds",
		"--stop-copy --max-downtime 1s": "no rounds",
		"--bandwidth fast":              "no size",
	} {
		code, _, errs, request := do(t, moved(), "move "+line+" sim node-b")
		if code != api.ExitUsage || !strings.Contains(errs, word) || request != nil {
			t.Errorf("%s: exit %d, %q, asked for %v", line, code, errs, request)
		}
	}
}

func TestMoveRoundIsOneLineWithItsReason(t *testing.T) {
	r := api.Round{Number: 2, Scanned: 1 << 30, Dirty: 10 << 20, Wire: 4 << 20, Took: 300 * time.Millisecond, DirtyRate: 20 << 20, WireRate: 13 << 20, Reason: "forecast 280ms is within 300ms"}
	want := "round 2: 10.0 MiB of 1.0 GiB changed (20.0 MiB/s), 4.0 MiB sent in 300 ms (13.0 MiB/s): forecast 280ms is within 300ms"
	if got := roundLine(r); got != want {
		t.Errorf("%q", got)
	}
}

func TestMoveAsJSONPrintsTheEventsOnly(t *testing.T) {
	_, out, errs, _ := do(t, moved(), "move --json sim node-b")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || errs != "" {
		t.Fatalf("%q, %q", out, errs)
	}
	for _, l := range lines {
		var e api.Event
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Errorf("%q: %v", l, err)
		}
	}
}

func TestMoveQuietPrintsNothing(t *testing.T) {
	if code, out, errs, _ := do(t, moved(), "move -q sim node-b"); code != 0 || out+errs != "" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

func TestMoveOutcomeIsTheExitStatus(t *testing.T) {
	left := moved()[2]
	left.Done.CleanupLeft = "the cgroup is busy"
	for want, event := range map[int]api.Event{
		api.ExitRefused:     {Error: &api.Error{Code: api.CodeRefused, Message: "no"}},
		api.ExitAborted:     {Error: &api.Error{Code: api.CodeAborted, Message: "no", Where: "runs on node-a"}},
		api.ExitInDoubt:     {Phase: api.PhaseCommit}, // and then nothing
		api.ExitCleanupLeft: left,
	} {
		if code, _, errs, _ := do(t, []api.Event{event}, "move sim node-b"); code != want || errs == "" {
			t.Errorf("exit %d, want %d: %s", code, want, errs)
		}
	}
}

func TestMoveInterruptedSaysWhereTheJobStays(t *testing.T) {
	a := newFakeAgent(t)
	c, _, errs := newCLI(a)
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int)
	go func() { code <- c.execute(ctx, []string{"move", "sim", "node-b"}) }()
	a.until("the request", func() bool { return a.request != nil })
	cancel()
	if got := <-code; got != api.ExitCancelled || !strings.Contains(errs.String(), "stays where it is") || !strings.Contains(errs.String(), "migrate inspect sim") {
		t.Errorf("exit %d, %q", got, errs)
	}
}

func TestMoveShowsPhaseBytesAndRateOnATerminal(t *testing.T) {
	b := newLocked()
	m := newProgressBar(b, mpb.WithAutoRefresh())
	for _, e := range moved()[:2] {
		m.show(e)
	}
	b.until(t, "park")
	m.end()
	for _, word := range []string{"4.0 MiB of 4.0 MiB, 2.0 MiB sent", "/s"} {
		if !strings.Contains(b.String(), word) {
			t.Errorf("%q is missing in %q", word, b)
		}
	}
}

func TestCheckpointAndRestoreNameAbsoluteDirectories(t *testing.T) {
	code, out, _, request := do(t, moved(), "checkpoint --leave-running sim ckpt")
	if code != 0 || request["dir"] != "/home/ada/run/ckpt" || request["leave_running"] != true || !strings.Contains(out, "saved in /d: downtime 212 ms") {
		t.Errorf("exit %d, %q, asked for %v", code, out, request)
	}
	code, out, _, request = do(t, moved(), "restore -d --clock elapsed ../ckpt")
	if code != 0 || request["dir"] != "/home/ada/ckpt" || request["clock"] != "elapsed" || request["foreground"] != nil || out != "jabcdefghij\n" {
		t.Errorf("exit %d, %q, asked for %v", code, out, request)
	}
}

func TestRestoreFollowsTheJob(t *testing.T) {
	a := newFakeAgent(t)
	a.events = moved()
	a.write("stdout", "all of it")
	a.exit(5, 0)
	c, out, _ := newCLI(a)
	if code := c.execute(t.Context(), []string{"restore", "/d"}); code != 5 || out.String() != "all of it" {
		t.Errorf("exit %d, %q", code, out)
	}
	if !strings.Contains(string(a.request), `"foreground":true`) {
		t.Errorf("asked for %s", a.request)
	}
}

func TestWaitPrintsEveryStatusAndReturnsTheFirstFailure(t *testing.T) {
	a := newFakeAgent(t)
	a.exit(0, 15)
	c, out, _ := newCLI(a)
	if code := c.execute(t.Context(), []string{"wait", "a", "b"}); code != 143 || out.String() != "143\n143\n" {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestLogsPrintOneStream(t *testing.T) {
	a := newFakeAgent(t)
	a.write("stdout", "out")
	a.write("stderr", "err")
	for line, want := range map[string]string{"logs sim": "out", "logs --stderr sim": "err"} {
		c, out, _ := newCLI(a)
		if code := c.execute(t.Context(), strings.Fields(line)); code != 0 || out.String() != want {
			t.Errorf("%s: exit %d, %q", line, code, out)
		}
	}
	a.exit(3, 0)
	c, out, _ := newCLI(a)
	if code := c.execute(t.Context(), []string{"logs", "-f", "sim"}); code != 0 || out.String() != "out" {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestKillWarnsOfASignalThatTheKernelDrops(t *testing.T) {
	a := newFakeAgent(t)
	none := uint64(0)
	a.job.Caught = &none
	for line, warned := range map[string]bool{"kill sim": true, "kill -s USR1 sim": true, "kill -s 9 sim": false, "kill -s SIGCONT sim": false} {
		c, _, errs := newCLI(a)
		if code := c.execute(t.Context(), strings.Fields(line)); code != 0 || (errs.String() != "") != warned {
			t.Errorf("%s: exit %d, %q", line, code, errs)
		}
	}
}

func TestPsHidesJobsThatAreOver(t *testing.T) {
	a := newFakeAgent(t)
	a.exit(0, 0)
	for line, shown := range map[string]bool{"ps": false, "ps -a": true, "ps --json": false, "ps -a --json": true} {
		c, out, _ := newCLI(a)
		if code := c.execute(t.Context(), strings.Fields(line)); code != 0 || strings.Contains(out.String(), "jabcdefghij") != shown {
			t.Errorf("%s: exit %d, %q", line, code, out)
		}
	}
}

func TestRmGoesOnAfterAFailure(t *testing.T) {
	if code, _, errs, _ := do(t, nil, "rm a b"); code != api.ExitFailed || !strings.Contains(errs, "no job a") || !strings.Contains(errs, "no job b") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

func TestPKIMakesWhatAnAgentLoads(t *testing.T) {
	dir := t.TempDir()
	ca, out := filepath.Join(dir, "ca"), filepath.Join(dir, "node-a")
	for _, args := range [][]string{{"pki", "init", ca, "--cluster", "hpc"}, {"pki", "issue", ca, "node-a", "--out", out}} {
		c, said, errs := newCLI(nil)
		if code := c.execute(t.Context(), args); code != 0 || said.String() == "" {
			t.Fatalf("%v: exit %d, %s", args, code, errs)
		}
	}
}

func TestHelpOfEveryCommandHasAnExample(t *testing.T) {
	c, _, _ := newCLI(nil)
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		takesSome := strings.ContainsFunc(cmd.Use, unicode.IsUpper)
		if cmd.Short == "" || cmd.Long == "" || takesSome && !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s lacks a text or an example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(newRoot(c))
}

func TestUsageErrorsOfMistypedCommands(t *testing.T) {
	for line, word := range map[string]string{
		"mvoe a b": "did you mean move", "pki inti": "did you mean init", "ps extra": "no arguments", "move a": "JOB NODE", "rm": "JOB...",
		"move a b=c": "HOST:PORT", "move --connections 17 a b": "--connections", "kill -s NONE a": "no signal", "restore --clock x d": "--clock",
		"pki init d": "--cluster", "pki issue d n": "--out", "exec a": "command", "agent --peer x": "--peer", "ps --jsno": "--jsno", "report": "MOVE", "resolve m": "--take", "resolve --take --drop m": "one of",
	} {
		c, _, errs := newCLI(nil)
		if code := c.execute(t.Context(), strings.Fields(line)); code != api.ExitUsage || !strings.Contains(errs.String(), word) || !strings.Contains(errs.String(), "usage: ") {
			t.Errorf("%s: exit %d, %q", line, code, errs)
		}
	}
}
