package transfer

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/store"
)

// A file of a user's may be on a server that is away, or be one of the user's own (FUSE):
// who reads or writes it may wait for ever. So that is a goroutine of its own, and
// everybody else can give it up. Besides, it hashes while others pack, unpack and keep.
const (
	laneBuffer  = 1 << 20
	laneBuffers = 3
)

// errGivenUp ends what waits for a lane that nobody wants any more.
var errGivenUp = errors.New("the lane was given up")

// laneQueue is what lies between the two ends of a lane.
type laneQueue struct {
	full chan []byte   // one end sends, and closes it
	free chan []byte   // has room for all
	stop chan struct{} // closed: given up
	done chan struct{} // closed by the goroutine when it ends
	err  error         // with which it did
}

func newLaneQueue(stop chan struct{}) *laneQueue {
	q := &laneQueue{full: make(chan []byte), free: make(chan []byte, laneBuffers), stop: stop, done: make(chan struct{})}
	for range laneBuffers {
		q.free <- make([]byte, 0, laneBuffer)
	}
	return q
}

// laneWriter is a lane of a directory that is being written.
type laneWriter struct {
	*laneQueue
	buf   []byte // nil: to be taken from free
	ended bool
}

// newLaneWriter writes to w with the rights of a user: their quota holds, and a file
// server knows who it is.
func newLaneWriter(c caller.Caller, w io.Writer, count *atomic.Int64, stop chan struct{}) *laneWriter {
	l := &laneWriter{laneQueue: newLaneQueue(stop)}
	go func() {
		defer close(l.done)
		l.err = caller.As(c, func() error { return l.drain(w, count) })
	}()
	return l
}

func (l *laneWriter) drain(w io.Writer, count *atomic.Int64) error {
	for {
		select {
		case buf, more := <-l.full:
			if !more {
				return nil
			}
			n, err := w.Write(buf)
			count.Add(int64(n))
			if err != nil {
				return err
			}
			l.free <- buf[:0]
		case <-l.stop:
			return errGivenUp
		}
	}
}

func (l *laneWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if l.buf == nil {
			select {
			case l.buf = <-l.free:
			case <-l.done:
				return n, l.err
			case <-l.stop:
				return n, errGivenUp
			}
		}
		part := min(len(p)-n, cap(l.buf)-len(l.buf))
		l.buf = append(l.buf, p[n:n+part]...)
		n += part
		if len(l.buf) == cap(l.buf) {
			if err := l.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (l *laneWriter) flush() error {
	select {
	case l.full <- l.buf:
		l.buf = nil
		return nil
	case <-l.done:
		return l.err
	case <-l.stop:
		return errGivenUp
	}
}

// finish waits until all is written.
func (l *laneWriter) finish() error {
	if len(l.buf) > 0 {
		if err := l.flush(); err != nil {
			return err
		}
	}
	if !l.ended {
		l.ended = true
		close(l.full)
	}
	select {
	case <-l.done:
		return l.err
	case <-l.stop:
		return errGivenUp
	}
}

// savedLanes are the lanes of a sealed directory.
type savedLanes struct {
	readers []io.Reader
	queues  []*laneQueue
	stop    func()
}

// readAhead has all lanes read ahead. What comes out of them was checked.
func readAhead(s *store.Sealed) (*savedLanes, error) {
	for _, f := range s.Manifest.Files {
		if !strings.HasPrefix(f.Name, lanePrefix) {
			return nil, fmt.Errorf("the checkpoint holds %s, which is no lane", f.Name)
		}
	}
	stop := make(chan struct{})
	l := &savedLanes{stop: sync.OnceFunc(func() { close(stop) })}
	for i := range s.Manifest.Files {
		r := newLaneReader(s.Reader(i), stop)
		l.readers, l.queues = append(l.readers, r), append(l.queues, r.laneQueue)
	}
	return l, nil
}

// wait ends all, and returns when nobody reads a file any more, which may take long.
func (l *savedLanes) wait() {
	l.stop()
	for _, q := range l.queues {
		<-q.done
	}
}

type laneReader struct {
	*laneQueue
	buf  []byte // that was received last
	left []byte // of it
}

func newLaneReader(r io.Reader, stop chan struct{}) *laneReader {
	l := &laneReader{laneQueue: newLaneQueue(stop)}
	go func() {
		defer close(l.done)
		l.err = l.fill(r)
	}()
	return l
}

// fill ends with io.EOF at the end of the lane.
func (l *laneReader) fill(r io.Reader) error {
	for {
		var buf []byte
		select {
		case buf = <-l.free:
		case <-l.stop:
			return errGivenUp
		}
		n, err := io.ReadFull(r, buf[:cap(buf)])
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		if n > 0 {
			select {
			case l.full <- buf[:n]:
			case <-l.stop:
				return errGivenUp
			}
		}
		if err != nil {
			return err
		}
	}
}

func (l *laneReader) Read(p []byte) (int, error) {
	if len(l.left) == 0 {
		if l.buf != nil {
			l.free <- l.buf[:0]
			l.buf = nil
		}
		select {
		case l.buf = <-l.full:
			l.left = l.buf
		case <-l.done: // it has sent all that it had
			return 0, l.err
		case <-l.stop:
			return 0, errGivenUp
		}
	}
	n := copy(p, l.left)
	l.left = l.left[n:]
	return n, nil
}
