package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/osthread"
)

// Client talks to the shim of one job.
type Client struct {
	http   *http.Client
	runDir string
}

// ErrGone says that no shim answers: the job is over here, or never was.
var ErrGone = errors.New("no shim answers for the job")

// Start starts a shim, and with it the job if cfg.Launch is set. It returns when
// the job's command runs, or when the shim waits to restore. A job that could
// not be started has left nothing behind but cfg.RunDir's log.
func Start(cfg Config, logDir string) (*Client, error) {
	if err := cfg.write(); err != nil {
		return nil, fmt.Errorf("prepare the shim: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(logDir, LogName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{processName, cfg.RunDir}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = osthread.Throwaway(func() error {
		if err := osthread.NewKeyring("shim"); err != nil {
			return err
		}
		return cmd.Start()
	})
	_ = w.Close()
	if err != nil {
		return nil, fmt.Errorf("start the shim: %w", err)
	}
	go cmd.Wait() // reaps it if it ends before us; its record tells how the job ended
	if err := awaitBegin(r, cfg.Launch); err != nil {
		_ = cmd.Process.Kill() // it says that it is over, or nothing
		return nil, err
	}
	return Find(cfg.RunDir), nil
}

// awaitBegin waits until the shim says on r that it has begun.
func awaitBegin(r *os.File, launch *Launch) error {
	if launch != nil {
		if err := r.SetReadDeadline(time.Now().Add(launch.Within + 2*stuckTime)); err != nil {
			return err
		}
	}
	said, err := io.ReadAll(io.LimitReader(r, 1<<16))
	if err != nil {
		return fmt.Errorf("listen to the shim: %w", err)
	}
	if string(said) != "ok" {
		return errors.New(string(said))
	}
	return nil
}

// Find is the client of the shim whose run directory is given, whether one lives
// there or not.
func Find(runDir string) *Client {
	path := filepath.Join(runDir, socketName)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, runDir: runDir}
}

// Resumed tells whether a shim with this run directory ever let the job run. A shim that has ended
// in good order has removed the directory.
func (c *Client) Resumed() bool {
	_, err := os.Stat(filepath.Join(c.runDir, resumedName))
	return err == nil
}

// Status asks what the shim is doing.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, "GET", "/status", nil)
}

// Signal sends a signal to the job's PID 1.
func (c *Client) Signal(ctx context.Context, sig syscall.Signal) error {
	_, err := c.call(ctx, "POST", "/signal", signalRequest{int(sig)})
	return err
}

// Park restores the job up to the point before its first instruction.
func (c *Client) Park(ctx context.Context, req ParkRequest) error {
	_, err := c.call(ctx, "POST", "/park", req)
	return err
}

// Resume lets the parked job run.
func (c *Client) Resume(ctx context.Context) (Status, error) {
	return c.call(ctx, "POST", "/resume", nil)
}

// Drop gives up a job that has not run here. No shim is as good as one that has
// dropped.
func (c *Client) Drop(ctx context.Context) error {
	_, err := c.call(ctx, "POST", "/drop", nil)
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}

// Release ends the frozen job, which lives on elsewhere.
func (c *Client) Release(ctx context.Context) error {
	_, err := c.call(ctx, "POST", "/release", nil)
	return err
}

func (c *Client) call(ctx context.Context, method, path string, body any) (Status, error) {
	var st Status
	data, err := exactjson.Marshal(body)
	if err != nil {
		return st, err
	}
	return c.send(ctx, method, path, bytes.NewReader(data))
}

// do makes a request that the shim answers with 200.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://shim"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil && ctx.Err() == nil {
		// The shim may have gone while it was asked, and net/http has many words for that.
		if conn, look := net.Dial("unix", filepath.Join(c.runDir, socketName)); look != nil {
			err = errors.Join(err, look)
		} else {
			_ = conn.Close()
		}
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w (%s)", ErrGone, c.runDir)
	}
	if err != nil {
		return nil, fmt.Errorf("talk to the shim: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var f failure
	if err := exactjson.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&f); err != nil {
		return nil, fmt.Errorf("the shim answers %s", resp.Status)
	}
	return nil, errors.New(f.Error)
}

// send makes a request whose answer is the shim's status.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (Status, error) {
	var st Status
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, exactjson.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&st)
}
