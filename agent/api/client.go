package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"

	"github.com/migrate-hpc/migrate/exactjson"
)

// SocketName is the name of an agent's socket in its run directory.
const SocketName = "agent.sock"

// DefaultSocket is where an agent listens for local callers.
const DefaultSocket = "/run/migrate/" + SocketName

// maxReply bounds a reply that is read whole, in bytes.
const maxReply = 64 << 20

// Client sends requests to an agent. Its errors are *Error, unless ctx ended.
type Client struct {
	http   *http.Client
	dial   func(ctx context.Context) (net.Conn, error)
	socket string
}

// NewClient is the client of the agent behind a unix socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context) (net.Conn, error) { return dialAgent(ctx, socket) }
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	return &Client{http: &http.Client{Transport: t}, dial: dial, socket: socket}
}

// Run starts a job.
func (c *Client) Run(ctx context.Context, req RunRequest) (j Job, err error) {
	return j, c.call(ctx, "POST", "/v1/jobs", req, &j)
}

// Jobs lists the caller's jobs, or all of them for root.
func (c *Client) Jobs(ctx context.Context) (js []Job, err error) {
	return js, c.call(ctx, "GET", "/v1/jobs", nil, &js)
}

// Inspect returns all about one job, on whichever node it is.
func (c *Client) Inspect(ctx context.Context, ref string) (j Job, err error) {
	return j, c.call(ctx, "GET", jobPath(ref, ""), nil, &j)
}

// Wait returns when the job has ended, has moved on, or after a while; ask again
// unless its state is JobExited.
func (c *Client) Wait(ctx context.Context, ref string) (j Job, err error) {
	return j, c.call(ctx, "GET", jobPath(ref, "/wait"), nil, &j)
}

// Signal sends a signal to the job.
func (c *Client) Signal(ctx context.Context, ref string, sig syscall.Signal) error {
	return c.call(ctx, "POST", jobPath(ref, "/signal"), SignalRequest{int(sig)}, nil)
}

// Remove forgets an ended job; force ends it first.
func (c *Client) Remove(ctx context.Context, ref string, force bool) error {
	return c.call(ctx, "DELETE", jobPath(ref, "")+"?force="+strconv.FormatBool(force), nil, nil)
}

// Node describes the agent itself.
func (c *Client) Node(ctx context.Context) (n Node, err error) {
	return n, c.call(ctx, "GET", "/v1/node", nil, &n)
}

// Logs copies the job's output from an offset on. With follow it ends when the
// job ends or moves. It returns the number of bytes copied, after an error too: the next
// request continues there. An error of w is returned unchanged.
func (c *Client) Logs(ctx context.Context, ref, stream string, offset int64, follow bool, w io.Writer) (int64, error) {
	q := url.Values{"stream": {stream}, "offset": {strconv.FormatInt(offset, 10)}, "follow": {strconv.FormatBool(follow)}}
	resp, err := c.send(ctx, "GET", jobPath(ref, "/logs")+"?"+q.Encode(), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return io.Copy(w, &reply{resp.Body, func(err error) error { return c.unreachable(ctx, err) }})
}

// Moves lists the moves from and to this node, the unfinished ones first; all adds those that
// are finished.
func (c *Client) Moves(ctx context.Context, all bool) (ms []MoveSummary, err error) {
	return ms, c.call(ctx, "GET", "/v1/moves?all="+strconv.FormatBool(all), nil, &ms)
}

// MoveRecord returns all about one move.
func (c *Client) MoveRecord(ctx context.Context, move string) (r MoveRecord, err error) {
	return r, c.call(ctx, "GET", "/v1/moves/"+url.PathEscape(move), nil, &r)
}

// PlanResolve returns what a decision about a move would do. Its error says why there is
// nothing to decide.
func (c *Client) PlanResolve(ctx context.Context, move string, d Decision) (p ResolvePlan, err error) {
	return p, c.call(ctx, "GET", resolvePath(move, d), nil, &p)
}

// Resolve carries the decision out.
func (c *Client) Resolve(ctx context.Context, move string, d Decision) (p ResolvePlan, err error) {
	return p, c.call(ctx, "POST", resolvePath(move, d), nil, &p)
}

func resolvePath(move string, d Decision) string {
	return "/v1/moves/" + url.PathEscape(move) + "/resolve?" + string(d)
}

// Move moves a job. It calls onEvent with every event, and returns the result or the error
// of the last one.
func (c *Client) Move(ctx context.Context, ref string, req MoveRequest, onEvent func(Event)) (*Result, error) {
	return c.events(ctx, jobPath(ref, "/move"), req, onEvent)
}

// Checkpoint saves a job into a directory.
func (c *Client) Checkpoint(ctx context.Context, ref string, req CheckpointRequest, onEvent func(Event)) (*Result, error) {
	return c.events(ctx, jobPath(ref, "/checkpoint"), req, onEvent)
}

// Restore starts a job from a directory.
func (c *Client) Restore(ctx context.Context, req RestoreRequest, onEvent func(Event)) (*Result, error) {
	return c.events(ctx, "/v1/restore", req, onEvent)
}

const inDoubtHint = "the agent finishes or undoes by itself; `migrate ps` tells where the job is, `migrate moves` what it waits for"

func jobPath(ref, rest string) string { return "/v1/jobs/" + url.PathEscape(ref) + rest }

func (c *Client) events(ctx context.Context, path string, req any, onEvent func(Event)) (*Result, error) {
	resp, err := c.send(ctx, "POST", path, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Event
		if err := exactjson.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, &Error{Code: CodeInDoubt, Message: fmt.Sprintf("the agent's reply: %v", err), Hint: inDoubtHint}
		}
		onEvent(e)
		if e.Error != nil {
			return nil, e.Error
		}
		if e.Done != nil {
			return e.Done, nil
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, &Error{Code: CodeInDoubt, Message: "the agent's reply was cut off before it said how it ended",
		Hint: inDoubtHint}
}

func (c *Client) call(ctx context.Context, method, path string, req, into any) error {
	resp, err := c.send(ctx, method, path, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if into == nil {
		return nil
	}
	if err := exactjson.Unmarshal(data, into); err != nil {
		return &Error{Code: CodeFailed, Message: fmt.Sprintf("the agent's reply: %v", err)}
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, req any) (*http.Response, error) {
	r, err := newRequest(ctx, method, path, req)
	if err != nil {
		return nil, err
	}
	return c.do(r)
}

func newRequest(ctx context.Context, method, path string, req any) (*http.Request, error) {
	var body io.Reader
	if req != nil {
		data, err := exactjson.Marshal(req)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	return http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
}

func (c *Client) do(r *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(r.Context(), err)
	}
	if resp.StatusCode >= 300 {
		return nil, readError(resp)
	}
	return resp, nil
}

// reply is a body whose errors say that the agent does not answer.
type reply struct {
	body    io.Reader
	wrapErr func(error) error
}

func (r *reply) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err != nil && err != io.EOF {
		err = r.wrapErr(err)
	}
	return n, err
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := &Error{Code: CodeUnreachable, Message: fmt.Sprintf("no answer from the agent at %s: %v", c.socket, err)}
	switch {
	case errors.As(err, new(notTheAgent)):
		e.Code = CodeForbidden // to try again would not help
		e.Hint = "name the agent's socket, in a directory of root's: `migrate --socket FILE …`, or $MIGRATE_SOCKET"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		e.Message = fmt.Sprintf("no agent runs behind %s", c.socket)
		e.Hint = "start one as root with `migrate agent`, or name another socket with --socket or $MIGRATE_SOCKET; running jobs are not affected"
	case errors.Is(err, os.ErrPermission):
		e.Hint = "ask the operator for access; `namei -l " + c.socket + "` shows who may pass"
	}
	return e
}

func readError(resp *http.Response) error {
	defer resp.Body.Close()
	var e Error
	if err := exactjson.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(&e); err != nil || e.Message == "" {
		return &Error{Code: bareCode(resp.StatusCode), Message: "the agent answers " + resp.Status}
	}
	return &e
}

// bareCode is the code of an answer without an Error: a proxy between agents sent it, because
// it cannot reach the next one.
func bareCode(status int) Code {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return CodeUnreachable
	}
	return CodeFailed
}
