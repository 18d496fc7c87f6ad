package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
)

// showMove moves the job while it runs and shows the lines around it.
func (d *demo) showMove(ctx context.Context, e *Evidence, from, to *node) error {
	verb := "Move it to"
	if to == d.nodes[0] {
		verb = "Move it back to"
	}
	d.screen.heading(fmt.Sprintf("%d. %s %s", len(e.Moves)+3, verb, to.name))
	if len(e.Moves) == 0 {
		d.screen.say("It is frozen on %s, what the kernel knows of it is saved by CRIU, its memory is sent, and it is parked on %s until both have agreed that it runs there, and only there, from now on.", from.name, to.name)
		d.screen.line("")
	}
	before, err := d.awaitLines(ctx)
	if err != nil {
		return err
	}
	var m Move
	err = limit(ctx, "move the job to "+to.name, d.memoryLimit(), func(ctx context.Context) error {
		m, err = d.move(ctx, from, to)
		return err
	})
	if err != nil {
		return err
	}
	e.Moves = append(e.Moves, m)
	return limit(ctx, "see the job go on", 30*time.Second, func(ctx context.Context) error {
		if err := d.showCut(ctx, e, before); err != nil {
			return err
		}
		return d.recordPlacement(ctx, e)
	})
}

// awaitLines waits for a few more lines of the job, and returns how many there are.
func (d *demo) awaitLines(ctx context.Context) (int, error) {
	lines, _, _, _ := d.out.now()
	want := len(lines) + 4
	err := limit(ctx, "wait for the job's lines", 20*time.Second, func(ctx context.Context) (err error) {
		lines, err = d.out.await(ctx, func(l []Line) bool { return len(l) >= want })
		return err
	})
	return len(lines), err
}

func (d *demo) move(ctx context.Context, from, to *node) (Move, error) {
	m := Move{From: from.name, To: to.name}
	r, err := d.nodes[0].client.Move(ctx, string(d.id), api.MoveRequest{Node: to.name}, func(ev api.Event) {
		if ev.Phase == api.PhaseFreeze && m.Froze.IsZero() {
			m.Froze = ev.At
		}
		d.screen.status(fmt.Sprintf("%-9s  %s of %s read, %s sent", ev.Phase, mebibytes(ev.Read>>20<<20), mebibytes(ev.Total>>20<<20), mebibytes(ev.Sent>>20<<20)))
	})
	if err != nil {
		return m, err
	}
	m.Downtime, m.Took, m.Read, m.Sent = r.Downtime, r.Took, r.Read, r.Sent
	for _, l := range wrap(phases(r.Phases), width-len(margin)-2) {
		d.screen.line(margin + "  " + strings.ReplaceAll(l, "_", " "))
	}
	d.screen.line("")
	if r.CleanupLeft != "" {
		return m, errors.New(r.CleanupLeft)
	}
	return m, nil
}

// phases lists the phases of a move and how long each took, in order. Underscores stand for
// the spaces at which no line may end.
func phases(took map[api.Phase]time.Duration) string {
	var list []string
	for _, p := range []api.Phase{api.PhasePreflight, api.PhaseWarmup, api.PhaseFreeze, api.PhaseDump, api.PhaseResidue, api.PhasePark, api.PhaseCommit, api.PhaseResume, api.PhaseRelease} {
		if t, ok := took[p]; ok {
			list = append(list, fmt.Sprintf("%s_%d_ms", p, t.Round(time.Millisecond).Milliseconds()))
		}
	}
	return strings.Join(list, ", ")
}

// showCut shows the last lines before the move and the first ones after it.
func (d *demo) showCut(ctx context.Context, e *Evidence, before int) error {
	move := len(e.Moves) - 1
	_, err := d.out.await(ctx, func(lines []Line) bool {
		e.Lines = lines
		return e.after(move) < len(lines)
	})
	if err != nil {
		return err
	}
	cut := e.after(move)
	m := e.Moves[move]
	if err := d.showLines(ctx, max(cut-2, 0), min(cut, 2), true); err != nil {
		return err
	}
	if cut > 0 {
		last, first := e.Lines[cut-1], e.Lines[cut]
		d.screen.line(fmt.Sprintf("%s  ----- downtime %s, and goes on at %s -----", margin, seconds(m.Downtime), m.To))
		defer d.screen.say("From the line before to the line after, the wall clock went on by %s, and the job's own clock by %s.",
			seconds(first.Wall.Sub(last.Wall)), seconds(first.Clock-last.Clock))
	}
	defer d.screen.line("")
	return d.showLines(ctx, cut, 3, false)
}

// recordPlacement adds the job's node, pids and namespace to the evidence.
func (d *demo) recordPlacement(ctx context.Context, e *Evidence) error {
	return limit(ctx, "look at the job", 20*time.Second, func(ctx context.Context) error {
		j, err := d.nodes[0].client.Inspect(ctx, string(d.id))
		if err != nil {
			return err
		}
		s := Placement{Node: j.Node, PidOutside: j.Init, PidNamespace: j.Namespaces["pid"]}
		for _, p := range j.Pids {
			if p.Host == j.Init {
				s.PidInside = p.Job
			}
		}
		if j.Clocks != nil {
			s.ClockOffset = j.Clocks.MonotonicOffset
		}
		e.Placements = append(e.Placements, s)
		return nil
	})
}

const logLines = 12

// showLogs shows the ends of the agents' logs, which are about to be removed.
func (d *demo) showLogs() {
	for _, n := range d.nodes {
		data, err := os.ReadFile(n.log)
		if err != nil || len(data) == 0 {
			continue
		}
		d.screen.heading("What the agent of " + n.name + " said last")
		lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		for _, l := range lines[max(0, len(lines)-logLines):] {
			d.screen.line(string(l))
		}
	}
}

// fileBuffer keeps what is written to it, up to maxOutput.
type fileBuffer []byte

func (f *fileBuffer) Write(p []byte) (int, error) {
	if len(*f)+len(p) > maxOutput {
		return 0, fmt.Errorf("the job has written more than %d bytes", maxOutput)
	}
	*f = append(*f, p...)
	return len(p), nil
}
