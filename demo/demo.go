package demo

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/job"
)

// Options of a demo.
type Options struct {
	Memory   int64    // bytes that the job holds, a multiple of MemoryStep
	Moves    int      // 1 to MaxMoves
	Job      []string // arguments with which this binary runs Job
	Out      io.Writer
	Terminal bool // Out is one
}

// Bounds of the options.
const (
	MemoryStep = 1 << 20
	MaxMoves   = 20
)

// demo is a running demo; cleanUp undoes all of it.
type demo struct {
	o       Options
	screen  *screen
	dirs    dirs
	network *network
	nodes   []*node
	id      job.ID

	out       *output
	unfollow  context.CancelFunc
	following sync.WaitGroup
}

// limit gives a step of the demo a time limit. Its error names the step.
func limit(ctx context.Context, what string, most time.Duration, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it took longer than %v", most))
	defer cancel()
	if err := step(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// memoryLimit is a time limit for a step that handles all memory, at 20 MB/s.
func (d *demo) memoryLimit() time.Duration {
	return 30*time.Second + time.Duration(d.o.Memory/20e6)*time.Second
}

// showLines shows n of the job's lines from a number on as they come.
func (d *demo) showLines(ctx context.Context, from, n int, head bool) error {
	if head {
		d.screen.line(margin + "  " + lineHead)
	}
	for i := from; i < from+n; i++ {
		lines, err := d.out.await(ctx, func(l []Line) bool { return len(l) > i })
		if err != nil {
			return err
		}
		d.screen.line(margin + "  " + showLine(lines[i]))
	}
	return nil
}

const lineHead = "count   pid   hostname    its own clock   memory compared"

func showLine(l Line) string {
	return fmt.Sprintf("%5d   %3d   %-8s   %14s   %15s", l.Count, l.Pid, l.Host, seconds(l.Clock), mebibytes(l.Checked))
}

func (d *demo) stopFollowing() {
	if d.unfollow != nil {
		d.unfollow()
	}
	d.following.Wait()
}
