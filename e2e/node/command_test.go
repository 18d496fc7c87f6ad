package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit is how long a command may take that does not say otherwise.
const limit = 40 * time.Second

// result is how a command ended.
type result struct {
	line     string
	code     int // 128+N after signal N
	out, err string
	took     time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%s\nexit status %d after %v\nstdout: %s\nstderr: %s", r.line, r.code, r.took.Round(time.Millisecond), clip(r.out), clip(r.err))
}

func clip(s string) string {
	const most = 3000
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("… %d bytes left out …\n%s", len(s)-most, s[len(s)-most:])
}

// want fails the test unless the command ended with this status.
func (r result) want(t testing.TB, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit status %d, want %d: %v", r.code, code, r)
	}
	return r
}

// says fails the test unless standard error holds all these words. Case does not
// matter.
func (r result) says(t testing.TB, words ...string) result {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(strings.ToLower(r.err), strings.ToLower(w)) {
			t.Errorf("the message lacks %q: %v", w, r)
		}
	}
	return r
}

// process is a command under way.
type process struct {
	t       testing.TB
	cmd     *exec.Cmd
	cancel  context.CancelFunc
	out     output
	err     output
	began   time.Time
	ended   chan struct{}
	outcome result
}

// output is a buffer that may be looked at while it is written.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	lines func(string) // told of every whole line; may be nil
	seen  int
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p)
	for o.lines != nil {
		rest := o.buf.Bytes()[o.seen:]
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		o.seen += i + 1
		o.lines(string(rest[:i]))
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// spawn starts a command that does not outlive the test.
func spawn(t testing.TB, most time.Duration, lines func(string), name string, args ...string) *process {
	t.Helper()
	p := begin(t, most, lines, name, args...)
	t.Cleanup(func() {
		p.cancel()
		<-p.ended
	})
	return p
}

// begin starts a command; it is killed, by its pid, when the time is up.
func begin(t testing.TB, most time.Duration, lines func(string), name string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	p := &process{t: t, cancel: cancel, began: time.Now(), ended: make(chan struct{})}
	p.out.lines = lines
	p.cmd = exec.CommandContext(ctx, name, args...)
	p.cmd.Dir = shared.dir // a job begins where its user is: that must be there in the job, wherever the tests lie
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.WaitDelay = 2 * time.Second
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		defer cancel()
		err := p.cmd.Wait()
		p.outcome = result{line: "$ " + strings.Join(p.cmd.Args, " "), code: exitStatus(p.cmd, err), out: p.out.String(), err: p.err.String(), took: time.Since(p.began)}
		if ctx.Err() != nil {
			p.outcome.err += fmt.Sprintf("\n[killed: it took more than %v]", most)
		}
	}()
	return p
}

func exitStatus(cmd *exec.Cmd, err error) int {
	if cmd.ProcessState == nil {
		return -1
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return -1
	}
	return cmd.ProcessState.ExitCode()
}

func (p *process) wait() result {
	<-p.ended
	return p.outcome
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("signal %v to %s: %v", sig, p.cmd, err)
	}
}

// command runs one to its end.
func command(t testing.TB, name string, args ...string) result {
	t.Helper()
	return spawn(t, limit, nil, name, args...).wait()
}

// eventually waits until check returns nil, and fails with its last error when
// the time is up.
func eventually(t testing.TB, most time.Duration, check func() error) {
	t.Helper()
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", most, err)
		}
	}
}
