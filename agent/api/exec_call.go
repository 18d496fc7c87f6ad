package api

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// execCaller is the caller's side of an exec connection.
type execCaller struct {
	frames  *execFrames
	allowed *allowance
}

// feed sends stdin. collect returns the errors of the connection.
func (e *execCaller) feed(stdin io.Reader) {
	if stdin != nil {
		buf := make([]byte, maxExecFrame)
		for {
			n := e.allowed.take(len(buf))
			if n == 0 {
				return
			}
			got, err := stdin.Read(buf[:n])
			e.allowed.give(n - got)
			if got > 0 && e.frames.send(frameStdin, buf[:got]) != nil {
				return
			}
			if err != nil { // a stdin that cannot be read has no more to give
				break
			}
		}
	}
	_ = e.frames.send(frameStdinEOF, nil)
}

func (e *execCaller) collect(stdout, stderr io.Writer) (int, error) {
	for {
		kind, p, err := e.frames.next()
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errExecCut, err)
		}
		switch kind {
		case frameStdout:
			_, err = stdout.Write(p)
		case frameStderr:
			_, err = stderr.Write(p)
		case frameTaken:
			err = e.taken(binary.LittleEndian.Uint32(p))
		case frameExit:
			return int(int32(binary.LittleEndian.Uint32(p))), nil
		case frameError:
			return 0, decodeError(p)
		default:
			err = fmt.Errorf("%w: kind %d from an agent", errExecFrame, kind)
		}
		if err != nil {
			return 0, err
		}
	}
}

func (e *execCaller) taken(n uint32) error {
	if n > stdinWindow {
		return fmt.Errorf("%w: %d bytes of stdin taken", errExecFrame, n)
	}
	e.allowed.give(int(n))
	return nil
}

func decodeError(p []byte) error {
	var e Error
	if err := json.Unmarshal(p, &e); err != nil || e.Message == "" {
		return fmt.Errorf("%w: an error without a message", errExecFrame)
	}
	return &e
}

func encodeError(err error) []byte {
	e := &Error{Code: CodeFailed, Message: err.Error()}
	errors.As(err, &e)
	p, err := json.Marshal(e)
	if err != nil || len(p) > maxExecFrame {
		p, _ = json.Marshal(Error{Code: e.Code, Message: fmt.Sprintf("%.1000s", e.Message)})
	}
	return p
}

// allowance counts the bytes that may still be sent.
type allowance struct {
	mu     sync.Mutex
	more   *sync.Cond
	left   int
	closed bool
}

func newAllowance(n int) *allowance {
	a := &allowance{left: n}
	a.more = sync.NewCond(&a.mu)
	return a
}

// take waits until something is left and takes up to most of it; 0 = closed.
func (a *allowance) take(most int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.left == 0 && !a.closed {
		a.more.Wait()
	}
	if a.closed {
		return 0
	}
	n := min(most, a.left)
	a.left -= n
	return n
}

func (a *allowance) give(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left += n
	a.more.Signal()
}

func (a *allowance) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.more.Broadcast()
}
