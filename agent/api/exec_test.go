package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// agentFor serves every request as an exec of cmd behind a unix socket.
func agentFor(t *testing.T, cmd execCommand) string {
	t.Helper()
	return serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := ServeExec(w, r, func(ctx context.Context, _ ExecRequest, in io.Reader, out, errs io.Writer) (int, error) {
			return cmd(ctx, in, out, errs)
		})
		if err != nil {
			answer(w, err)
		}
	}))
}

func answer(w http.ResponseWriter, err error) {
	var e *Error
	errors.As(err, &e)
	w.WriteHeader(e.Code.Status())
	_, _ = w.Write(encodeError(err))
}

func serveUnix(t *testing.T, h http.Handler) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return socket
}

// through puts a reverse proxy, as the one between agents, before socket.
func through(t *testing.T, socket string) string {
	t.Helper()
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "peer"})
	p.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	return serveUnix(t, p)
}

func request() ExecRequest { return ExecRequest{Args: []string{"cat"}} }

func TestExecCarriesEveryByteBothWaysAndTheStatus(t *testing.T) {
	input := bytes.Repeat([]byte("0123456789abcde\n"), 64<<10) // 1 MiB: four windows
	direct := agentFor(t, func(_ context.Context, in io.Reader, out, errs io.Writer) (int, error) {
		n, err := io.Copy(out, in)
		fmt.Fprintf(errs, "%d bytes", n)
		return 3, err
	})
	for name, socket := range map[string]string{"direct": direct, "through a proxy": through(t, direct)} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code, err := NewClient(socket).Exec(t.Context(), "j", request(), bytes.NewReader(input), &out, &errs)
			if code != 3 || err != nil {
				t.Fatalf("code %d, error %v", code, err)
			}
			if !bytes.Equal(out.Bytes(), input) || errs.String() != "1048576 bytes" {
				t.Errorf("%d bytes came back, stderr says %q", out.Len(), errs.String())
			}
		})
	}
}

func TestExecWithoutStdinReadsItsEndAtOnce(t *testing.T) {
	socket := agentFor(t, func(_ context.Context, in io.Reader, _, _ io.Writer) (int, error) {
		n, err := io.Copy(io.Discard, in)
		return int(n), err
	})
	if code, err := NewClient(socket).Exec(t.Context(), "j", request(), nil, io.Discard, io.Discard); code != 0 || err != nil {
		t.Errorf("code %d, error %v", code, err)
	}
}

// The usual ways to start a process must not wait for a stdin that stays open.
func TestExecEndsWhileItsStdinStaysOpen(t *testing.T) {
	socket := agentFor(t, func(ctx context.Context, in io.Reader, out, _ io.Writer) (int, error) {
		c := exec.CommandContext(ctx, "head", "-c", "3")
		c.Stdin, c.Stdout = in, out
		err := c.Run()
		return c.ProcessState.ExitCode(), err
	})
	forever, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte("abcd"))
	var out strings.Builder
	code, err := NewClient(socket).Exec(t.Context(), "j", request(), forever, &out, io.Discard)
	if code != 0 || err != nil || out.String() != "abc" {
		t.Errorf("code %d, error %v, output %q", code, err, out.String())
	}
}

func TestExecTellsTheAgentsError(t *testing.T) {
	want := Error{Code: CodeNotFound, Message: "no such program", Where: "node-a", Hint: "look for it"}
	socket := agentFor(t, func(context.Context, io.Reader, io.Writer, io.Writer) (int, error) {
		return 0, fmt.Errorf("start: %w", &want)
	})
	_, err := NewClient(socket).Exec(t.Context(), "j", request(), nil, io.Discard, io.Discard)
	var got *Error
	if !errors.As(err, &got) || got.Message != want.Message || got.Code != want.Code || got.Hint != want.Hint {
		t.Errorf("got %+v", err)
	}
	_, err = NewClient(socket).Exec(t.Context(), "j", ExecRequest{}, nil, io.Discard, io.Discard)
	if !errors.As(err, &got) || got.Code != CodeUsage {
		t.Errorf("a request without a command: %v", err)
	}
}

// The agent notices that the caller has gone, also behind a proxy and while the command
// ignores its stdin.
func TestExecEndsWithItsCaller(t *testing.T) {
	ended := make(chan error, 1)
	direct := agentFor(t, func(ctx context.Context, _ io.Reader, out, _ io.Writer) (int, error) {
		fmt.Fprint(out, "started")
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return 0, ctx.Err()
	})
	for name, socket := range map[string]string{"direct": direct, "through a proxy": through(t, direct)} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			started := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
			_, err := NewClient(socket).Exec(ctx, "j", request(), endless{}, started, io.Discard)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Exec returns %v", err)
			}
			select {
			case cause := <-ended:
				if !errors.Is(cause, errCallerGone) {
					t.Errorf("the command was ended by %v", cause)
				}
			case <-time.After(time.Minute):
				t.Fatal("the command was not ended")
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestExecOverABrokenConnectionHasNoExitStatus(t *testing.T) {
	socket := serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, conn, err := acceptExec(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, switching)
		f := newExecFrames(conn)
		_ = f.send(frameStdout, []byte("half"))
		_ = conn.Close()
	}))
	var out strings.Builder
	_, err := NewClient(socket).Exec(t.Context(), "j", request(), nil, &out, io.Discard)
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeUnreachable || out.String() != "half" {
		t.Errorf("error %v after %q", err, out.String())
	}
}

func TestExecEndsWhenTheCallerBreaksTheProtocol(t *testing.T) {
	for name, frames := range map[string]func(*execFrames) error{
		"kind of an agent": func(f *execFrames) error { return f.sendNumber(frameExit, 0) },
		"unknown kind":     func(f *execFrames) error { return f.send(99, nil) },
		"too much stdin":   func(f *execFrames) error { return f.send(frameStdin, make([]byte, 4*stdinWindow)) },
	} {
		t.Run(name, func(t *testing.T) {
			caller, agent := net.Pipe()
			defer caller.Close()
			go io.Copy(io.Discard, caller)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_ = frames(newExecFrames(caller)) // may be cut short by the end
			}()
			var cause error
			_ = serveExec(t.Context(), agent, func(ctx context.Context, _ io.Reader, _, _ io.Writer) (int, error) {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return 0, nil
			})
			<-sent
			if !errors.Is(cause, errExecFrame) {
				t.Errorf("ended by %v", cause)
			}
		})
	}
}

func TestExecSaysThatAnAgentIsTooOld(t *testing.T) {
	socket := serveUnix(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	_, err := NewClient(socket).Exec(t.Context(), "j", request(), nil, io.Discard, io.Discard)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint, "update") {
		t.Errorf("got %v", err)
	}
}

func TestExecFramesHaveOneForm(t *testing.T) {
	var b bytes.Buffer
	f := newExecFrames(&b)
	for _, err := range []error{
		f.send(frameStdin, []byte("hi")), f.send(frameStdinEOF, nil), f.sendNumber(frameTaken, 65536),
		f.send(frameStdout, []byte("o")), f.send(frameStderr, []byte("e")), f.sendNumber(frameExit, 130), f.send(frameError, []byte("{}")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const want = "\x01\x02\x00\x00\x00hi" + "\x02\x00\x00\x00\x00" + "\x03\x04\x00\x00\x00\x00\x00\x01\x00" +
		"\x04\x01\x00\x00\x00o" + "\x05\x01\x00\x00\x00e" + "\x06\x04\x00\x00\x00\x82\x00\x00\x00" + "\x07\x02\x00\x00\x00{}"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

// FuzzExecFrames holds that the decoder takes only what the encoder makes. It returns at most
// the bytes of a frame, and a clean end only between two frames.
func FuzzExecFrames(f *testing.F) {
	f.Add([]byte("\x01\x02\x00\x00\x00hi\x02\x00\x00\x00\x00"))
	f.Add([]byte("\x06\x04\x00\x00\x00\x82\x00\x00\x00"))
	f.Add([]byte("\x01\xff\xff\xff\xff"))
	f.Add([]byte("\x03\x01\x00\x00\x00x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again bytes.Buffer
		in := newExecFrames(bytes.NewBuffer(bytes.Clone(data)))
		out := newExecFrames(&again)
		for {
			kind, p, err := in.next()
			if err != nil {
				if errors.Is(err, io.EOF) && again.Len() != len(data) {
					t.Fatalf("a clean end after %d of %d bytes", again.Len(), len(data))
				}
				break
			}
			if err := out.send(kind, p); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(data, again.Bytes()) {
			t.Fatal("the encoder writes other bytes")
		}
	})
}
