package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// maxOutput bounds what a follower keeps, in bytes: ten minutes of lines.
const maxOutput = 4 << 20

// output is what the job has written, as far as follow has read it.
type output struct {
	mu      sync.Mutex
	raw     []byte
	parsed  int // bytes of raw that are whole lines
	lines   []Line
	err     error
	changed chan struct{} // closed and replaced at each change
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write implements io.Writer for the follower.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.raw)+len(p) > maxOutput {
		return 0, fmt.Errorf("the job has written more than %d bytes", maxOutput)
	}
	o.raw = append(o.raw, p...)
	for {
		n := bytes.IndexByte(o.raw[o.parsed:], '\n')
		if n < 0 {
			break
		}
		l, err := parseLine(string(o.raw[o.parsed : o.parsed+n+1]))
		if err != nil {
			return 0, err
		}
		o.lines, o.parsed = append(o.lines, l), o.parsed+n+1
	}
	o.wake()
	return len(p), nil
}

func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
	o.wake()
}

func (o *output) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *output) now() (lines []Line, raw []byte, changed <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lines[:len(o.lines):len(o.lines)], o.raw[:len(o.raw):len(o.raw)], o.changed, o.err
}

// await returns all lines as soon as they satisfy enough.
func (o *output) await(ctx context.Context, enough func([]Line) bool) ([]Line, error) {
	for {
		lines, _, changed, err := o.now()
		if enough(lines) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
	}
}

// follow copies the job's output until ctx ends. It always asks the same agent, which
// forwards the request after a move.
func (o *output) follow(ctx context.Context, c *api.Client, id job.ID) {
	defer func() {
		if p := recover(); p != nil { // the goroutine that waits for lines cleans up
			o.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	var offset int64
	for ctx.Err() == nil {
		n, err := c.Logs(ctx, string(id), "stdout", offset, true, o)
		offset += n
		if err == nil {
			err = stillRuns(ctx, c, id)
		}
		if err != nil {
			o.fail(err)
			return
		}
		select { // it is moving
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stillRuns returns an error with the job's stderr if the job has ended, nil if it moves.
func stillRuns(ctx context.Context, c *api.Client, id job.ID) error {
	j, err := c.Inspect(ctx, string(id))
	if err != nil || j.State != api.JobExited && j.State != api.JobLost {
		return err
	}
	how := fmt.Sprintf("the job is %s on %s", j.State, j.Node)
	if j.Exit != nil {
		how += fmt.Sprintf(" with status %d", j.Exit.Code)
	}
	var words bytes.Buffer
	_, err = c.Logs(ctx, string(id), "stderr", 0, false, &limited{&words, 4 << 10})
	if s := bytes.TrimSpace(words.Bytes()); len(s) > 0 {
		how += fmt.Sprintf(", and says: %s", s)
	}
	return errors.Join(errors.New(how), err)
}

// limited writes the first n bytes and drops the rest.
type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.n)
	l.n -= keep
	if _, err := l.w.Write(p[:keep]); err != nil {
		return 0, err
	}
	return len(p), nil
}
