package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

type frameKind uint8

const (
	frameStdin frameKind = iota + 1
	frameStdinEOF
	frameTaken
	frameStdout
	frameStderr
	frameExit
	frameError
)

const (
	execHeader   = 5
	maxExecFrame = 64 << 10  // payload of a frame, bytes
	stdinWindow  = 256 << 10 // stdin that the agent holds at most, bytes
)

var (
	errExecFrame = errors.New("broken exec frame")
	errExecCut   = errors.New("the connection to the job was lost before the command ended")
)

// execFrames reads and writes frames. One goroutine reads; any may write.
type execFrames struct {
	r io.Reader
	w io.Writer

	in [maxExecFrame]byte

	mu  sync.Mutex
	out [execHeader + maxExecFrame]byte
}

func newExecFrames(conn io.ReadWriter) *execFrames { return &execFrames{r: conn, w: conn} }

// next returns the next frame; its payload is valid until the following call.
// io.EOF means that the peer closed between two frames.
func (f *execFrames) next() (frameKind, []byte, error) {
	var h [execHeader]byte
	if _, err := io.ReadFull(f.r, h[:]); err != nil {
		return 0, nil, err
	}
	kind, length := frameKind(h[0]), binary.LittleEndian.Uint32(h[1:])
	if err := checkFrame(kind, length); err != nil {
		return 0, nil, err
	}
	p := f.in[:length]
	if _, err := io.ReadFull(f.r, p); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind, p, nil
}

func checkFrame(kind frameKind, length uint32) error {
	low, high := uint32(0), uint32(maxExecFrame)
	switch kind {
	case frameStdin, frameStdout, frameStderr, frameError:
	case frameStdinEOF:
		high = 0
	case frameTaken, frameExit:
		low, high = 4, 4
	default:
		return fmt.Errorf("%w: kind %d", errExecFrame, kind)
	}
	if length < low || length > high {
		return fmt.Errorf("%w: kind %d of %d bytes", errExecFrame, kind, length)
	}
	return nil
}

// send writes p as one frame, or as several if it is too long for one.
func (f *execFrames) send(kind frameKind, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		n := min(len(p), maxExecFrame)
		f.out[0] = byte(kind)
		binary.LittleEndian.PutUint32(f.out[1:], uint32(n))
		copy(f.out[execHeader:], p[:n])
		if _, err := f.w.Write(f.out[:execHeader+n]); err != nil {
			return err
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
}

func (f *execFrames) sendNumber(kind frameKind, n uint32) error {
	return f.send(kind, binary.LittleEndian.AppendUint32(nil, n))
}

// frameWriter is one of the command's outputs.
type frameWriter struct {
	frames *execFrames
	kind   frameKind
}

func (w frameWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := w.frames.send(w.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
