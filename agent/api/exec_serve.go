package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// execLinger is how long the agent waits for a caller to close the connection
// after the last frame. Closing it first could destroy that frame on its way.
const execLinger = 5 * time.Second

// errCallerGone is the cause of the end of the context that a command runs in.
var errCallerGone = errors.New("the caller closed the connection")

// ServeExec answers a request for ExecProtocol: it calls run once and sends the output and
// the exit status. run's ctx ends when the caller is gone or breaks the protocol; stdin then
// reads as ended. run returns an error, if possible an *Error, when it could not start the
// command. stdin is one end of a pipe: an exec.Cmd hands it on and does not wait for its end.
//
// ServeExec's error is an *Error with which the caller must still answer; run was not called.
func ServeExec(w http.ResponseWriter, r *http.Request,
	run func(ctx context.Context, req ExecRequest, stdin io.Reader, stdout, stderr io.Writer) (int, error)) error {
	req, conn, err := acceptExec(w, r)
	if err != nil {
		return err
	}
	// From here on an error could only go to the caller, and the caller is gone.
	if _, err := io.WriteString(conn, switching); err != nil {
		_ = conn.Close()
		return nil
	}
	_ = serveExec(r.Context(), conn, func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
		return run(ctx, req, stdin, stdout, stderr)
	})
	return nil
}

type execCommand func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) (int, error)

// serveExec serves a connection and closes it. An error says that the caller may
// not know how the command ended.
func serveExec(ctx context.Context, conn io.ReadWriteCloser, run execCommand) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	frames := newExecFrames(conn)
	stdin := newStdinBuffer(frames)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		cancel(stdin.fill())
	}()
	code, err := runPiped(ctx, stdin, frames, run)
	if err != nil {
		err = frames.send(frameError, encodeError(err))
	} else {
		err = frames.sendNumber(frameExit, uint32(int32(code)))
	}
	if err == nil {
		waitFor(gone, execLinger)
	}
	closeErr := conn.Close()
	<-gone
	if err = errors.Join(err, closeErr); err != nil {
		return fmt.Errorf("tell the caller how the command ended: %w", err)
	}
	return nil
}

// runPiped calls run with stdin behind a pipe.
func runPiped(ctx context.Context, stdin *stdinBuffer, frames *execFrames, run execCommand) (int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(w, stdin) // it may fail: the command has closed its stdin
		_ = w.Close()
	}()
	code, err := run(ctx, r, frameWriter{frames, frameStdout}, frameWriter{frames, frameStderr})
	stdin.end()
	_, _ = r.Close(), w.Close() // a write that waits ends too
	<-copied
	return code, err
}

func waitFor(done <-chan struct{}, most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// stdinBuffer holds the stdin that has arrived and was not read yet; it never
// holds more than stdinWindow.
type stdinBuffer struct {
	frames *execFrames

	mu     sync.Mutex
	change *sync.Cond
	data   bytes.Buffer
	ended  bool // no more will come
	unsent int  // bytes taken that the caller does not know of
}

func newStdinBuffer(frames *execFrames) *stdinBuffer {
	s := &stdinBuffer{frames: frames}
	s.change = sync.NewCond(&s.mu)
	return s
}

// fill receives stdin until the connection ends, and returns why it ended.
func (s *stdinBuffer) fill() error {
	defer s.end()
	for {
		kind, p, err := s.frames.next()
		switch {
		case errors.Is(err, io.EOF):
			return errCallerGone
		case err != nil:
			return fmt.Errorf("%w: %w", errCallerGone, err)
		case kind == frameStdin:
			err = s.put(p)
		case kind == frameStdinEOF:
			s.end()
		default:
			err = fmt.Errorf("%w: kind %d from a caller", errExecFrame, kind)
		}
		if err != nil {
			return err
		}
	}
}

func (s *stdinBuffer) put(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended { // the command has
		return nil
	}
	if s.data.Len()+len(p) > stdinWindow {
		return fmt.Errorf("%w: more than %d bytes of stdin ahead", errExecFrame, stdinWindow)
	}
	s.data.Write(p)
	s.change.Signal()
	return nil
}

func (s *stdinBuffer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.change.Broadcast()
}

// Read implements io.Reader for the command.
func (s *stdinBuffer) Read(p []byte) (int, error) {
	n, taken := s.take(p)
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	if taken > 0 {
		// A caller that is gone ends the context; the command still reads what it sent before.
		_ = s.frames.sendNumber(frameTaken, uint32(taken))
	}
	return n, nil
}

// take moves data into p; taken is what the caller should now know of. Large steps are
// enough, as the caller may send a whole window ahead.
func (s *stdinBuffer) take(p []byte) (n, taken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.data.Len() == 0 && !s.ended && len(p) > 0 {
		s.change.Wait()
	}
	n, _ = s.data.Read(p)
	if s.unsent += n; s.unsent < stdinWindow/4 || s.ended {
		return n, 0
	}
	taken, s.unsent = s.unsent, 0
	return n, taken
}
