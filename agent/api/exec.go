package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/migrate-hpc/migrate/exactjson"
)

// ExecProtocol is what POST /v1/jobs/JOB/exec upgrades its connection to. The
// request's body is an ExecRequest; after the reply 101 both sides send frames:
//
//	kind u8, length u32 (little endian), payload of at most 64 KiB
//
//	caller → agent   stdin   data
//	                 eof     -            stdin has ended
//	agent → caller   taken   bytes u32    the command has read so much of stdin
//	                 stdout  data
//	                 stderr  data
//	                 exit    status i32   the last frame, or
//	                 error   Error        the last frame: it could not be run
//
// The caller sends at most 256 KiB of stdin beyond what the agent has reported as taken. So
// the agent never stops reading: it notices that the caller is gone, and ends the command,
// even if the command ignores its stdin. In the other direction TCP blocks a command whose
// output the caller does not read. The caller closes the connection after the last frame.
const ExecProtocol = "migrate-exec/1"

// ExecRequest runs a command inside of a job, as the job's user.
type ExecRequest struct {
	Args    []string `json:"args"`
	Env     []string `json:"env,omitempty"`      // KEY=VALUE, complete; empty = the job's own
	WorkDir string   `json:"work_dir,omitempty"` // in the job; "" = the job's own
}

// Exec runs a command inside of a job and returns its exit status, 128+n when
// signal n ended it. When ctx ends, so does the command. A nil stdin is empty.
// A read of stdin may still wait when the command ends, since a read of a terminal cannot be
// cancelled; what it reads is lost.
func (c *Client) Exec(ctx context.Context, ref string, req ExecRequest, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	conn, err := c.upgrade(ctx, jobPath(ref, "/exec"), req)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	e := &execCaller{frames: newExecFrames(conn), allowed: newAllowance(stdinWindow)}
	defer e.allowed.close()
	go e.feed(stdin)
	code, err := e.collect(stdout, stderr)
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case errors.Is(err, errExecCut):
		return 0, &Error{Code: CodeUnreachable, Message: err.Error(), Hint: "the command was ended with it, the job was not: `migrate exec` again"}
	}
	return code, err
}

func (c *Client) upgrade(ctx context.Context, path string, req any) (io.ReadWriteCloser, error) {
	r, err := newRequest(ctx, "POST", path, req)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", ExecProtocol)
	resp, err := c.do(r)
	if err != nil {
		return nil, err
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != ExecProtocol {
		return nil, errors.Join(resp.Body.Close(),
			&Error{Code: CodeFailed, Message: "the agent does not speak " + ExecProtocol, Hint: "update migrate on the node where the job runs; `migrate version` there tells what it is"})
	}
	return conn, nil
}

// MaxCommandBody bounds the body of a request that carries arguments and environment, in
// bytes; it is that of a control message, in which a job travels.
const MaxCommandBody = 1 << 20

// switching is the agent's reply 101.
const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + ExecProtocol + "\r\n\r\n"

// acceptExec takes over the connection of a request for ExecProtocol. After an
// error, which is an *Error, the request is still to be answered.
func acceptExec(w http.ResponseWriter, r *http.Request) (req ExecRequest, conn io.ReadWriteCloser, err error) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), ExecProtocol) {
		return req, nil, &Error{Code: CodeUsage, Message: "this request must upgrade to " + ExecProtocol}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxCommandBody))
	if err == nil {
		err = exactjson.Unmarshal(data, &req)
	}
	if err != nil {
		return req, nil, &Error{Code: CodeUsage, Message: fmt.Sprintf("the request: %v", err)}
	}
	if len(req.Args) == 0 || req.Args[0] == "" {
		return req, nil, &Error{Code: CodeUsage, Message: "there is no command to run"}
	}
	c, buffered, err := http.NewResponseController(w).Hijack() // it lifts the server's deadlines
	if err != nil {
		return req, nil, &Error{Code: CodeFailed, Message: fmt.Sprintf("take over the connection: %v", err)}
	}
	ahead := io.LimitReader(buffered, int64(buffered.Reader.Buffered()))
	return req, &hijacked{Conn: c, r: io.MultiReader(ahead, c)}, nil
}

// hijacked reads first what the HTTP server had read ahead. Beyond that it must
// not read through the server, which takes a closed connection for the end of
// the request's context.
type hijacked struct {
	net.Conn
	r io.Reader
}

func (h *hijacked) Read(p []byte) (int, error) { return h.r.Read(p) }
