package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// guest is the way to the agent in a machine.
type guest struct {
	base   string
	client *http.Client
}

func newGuest(port int) *guest {
	return &guest{base: fmt.Sprintf("http://127.0.0.1:%d", port), client: &http.Client{Transport: &http.Transport{}}}
}

func (g *guest) close() { g.client.CloseIdleConnections() }

// awaitReady asks again and again. The first tries are short, because QEMU accepts
// before the guest listens; then it may be the host that is slow.
func (g *guest) awaitReady(ctx context.Context, alive func() error) error {
	for patience := 250 * time.Millisecond; ; patience += patience / 4 {
		try, cancel := context.WithTimeout(ctx, patience)
		resp, err := g.do(try, "GET", "/ready", nil)
		if err == nil {
			err = resp.Body.Close()
		}
		cancel()
		if err == nil {
			return nil
		}
		if dead := alive(); dead != nil {
			return dead
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// do makes a request; any status but success is an error with what was said.
func (g *guest) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, g.base+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return nil, errors.Join(fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, strings.TrimSpace(string(text))), err, resp.Body.Close())
}

// tell sends something that needs no answer.
func (g *guest) tell(ctx context.Context, method, path string, what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	resp, err := g.do(ctx, method, path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Result is how a program in a guest ended.
type Result struct {
	Code     int // 128+N after signal N
	Out, Err string
}

// Stream runs a program and hands over its output piece by piece as it comes. When
// ctx ends the program is killed.
func (m *Machine) Stream(ctx context.Context, c api.Command, out, errs io.Writer) (code int, err error) {
	g := m.guest
	if g == nil {
		return 0, fmt.Errorf("machine %s is off", m.Name)
	}
	data, err := json.Marshal(c)
	if err != nil {
		return 0, err
	}
	resp, err := g.do(ctx, "POST", "/exec", bytes.NewReader(data))
	if err != nil {
		return 0, fmt.Errorf("run %q on %s: %w", c.Args, m.Name, err)
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var o api.Output
		if err := dec.Decode(&o); err != nil {
			return 0, fmt.Errorf("run %q on %s: its end was not seen: %w", c.Args, m.Name, err)
		}
		if o.Fail != "" {
			return 0, fmt.Errorf("run %q on %s: %s", c.Args, m.Name, o.Fail)
		}
		if o.Exit != nil {
			return *o.Exit, nil
		}
		_, err1 := out.Write(o.Out)
		_, err2 := errs.Write(o.Err)
		if err := errors.Join(err1, err2); err != nil {
			return 0, err
		}
	}
}

// Run runs a program to its end. Any exit status is a result, not an error.
func (m *Machine) Run(ctx context.Context, c api.Command) (Result, error) {
	var out, errs bytes.Buffer
	code, err := m.Stream(ctx, c, &out, &errs)
	return Result{code, out.String(), errs.String()}, err
}

// Exec runs a program as root and returns what it printed; any status but 0 is an
// error.
func (m *Machine) Exec(ctx context.Context, args ...string) (string, error) {
	r, err := m.Run(ctx, api.Command{Args: args})
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%q on %s: exit status %d: %s%s", args, m.Name, r.Code, r.Out, r.Err)
	}
	return r.Out, err
}

// SetClock makes the wall clock that of the host, or this much later. On a slow host
// the word may be late, and is said again.
func (m *Machine) SetClock(ctx context.Context, later time.Duration) error {
	for most := 20 * time.Millisecond; ; most += most / 10 {
		began := time.Now()
		if err := m.guest.tell(ctx, "PUT", "/clock", api.Clock{Time: began.Add(later)}); err != nil {
			return fmt.Errorf("set the clock of %s: %w", m.Name, err)
		}
		if time.Since(began) < most {
			return nil
		}
	}
}

// Put copies a file of the host into the machine.
func (m *Machine) Put(ctx context.Context, local, remote string, mode os.FileMode) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	return m.put(ctx, f, remote, mode)
}

// Write makes a file in the machine.
func (m *Machine) Write(ctx context.Context, remote, text string, mode os.FileMode) error {
	return m.put(ctx, strings.NewReader(text), remote, mode)
}

func (m *Machine) put(ctx context.Context, r io.Reader, remote string, mode os.FileMode) error {
	q := url.Values{"path": {remote}, "mode": {fmt.Sprintf("%o", mode)}}
	resp, err := m.guest.do(ctx, "PUT", "/file?"+q.Encode(), r)
	if err != nil {
		return fmt.Errorf("put %s on %s: %w", remote, m.Name, err)
	}
	return resp.Body.Close()
}

// Get reads a file of the machine.
func (m *Machine) Get(ctx context.Context, remote string) (data []byte, err error) {
	q := url.Values{"path": {remote}}
	resp, err := m.guest.do(ctx, "GET", "/file?"+q.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("get %s from %s: %w", remote, m.Name, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	return io.ReadAll(resp.Body)
}
