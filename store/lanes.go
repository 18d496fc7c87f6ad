package store

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/migrate-hpc/migrate/osthread"
)

// A file of a user's may be on a server that is away, or be one of the user's own (FUSE):
// who reads or writes it may wait for ever. So that is a goroutine of its own, and
// everybody else can give it up. Besides, it hashes while others pack, unpack and keep.
const (
	laneBuffer  = 1 << 20
	laneBuffers = 3
)

const (
	lanePrefix = "lane-"
	mostLanes  = 4
)

// LaneNames are the names of the lanes that a new checkpoint has on this node.
func LaneNames() []string { return laneNames(min(runtime.NumCPU(), mostLanes)) }

// AllLaneNames are those that a checkpoint may have, whichever node it is of.
func AllLaneNames() []string { return laneNames(mostLanes) }

func laneNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", lanePrefix, i))
	}
	return names
}

// errGivenUp ends what waits for a lane that is of no use any more.
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

// LaneWriter is a lane of a checkpoint that is being written.
type LaneWriter struct {
	*laneQueue
	buf   []byte // nil: to be taken from free
	ended bool
}

// NewLaneWriter writes to w with the rights of a user: their quota holds, and a file
// server knows who it is. It adds to count what w has taken. Closing stop gives the lane up.
func NewLaneWriter(u osthread.User, w io.Writer, count *atomic.Int64, stop chan struct{}) *LaneWriter {
	l := &LaneWriter{laneQueue: newLaneQueue(stop)}
	go func() {
		defer close(l.done)
		l.err = osthread.As(u, func() error { return l.drain(w, count) })
	}()
	return l
}

func (l *LaneWriter) drain(w io.Writer, count *atomic.Int64) error {
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

func (l *LaneWriter) Write(p []byte) (n int, err error) {
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

func (l *LaneWriter) flush() error {
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

// Finish waits until all is written.
func (l *LaneWriter) Finish() error {
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

// Wait returns when the lane writes no more: it was finished or given up.
func (l *LaneWriter) Wait() { <-l.done }

// Lanes are those of a checkpoint that is being read.
type Lanes struct {
	Readers []io.Reader
	queues  []*laneQueue
	stop    func()
}

// ReadAhead has all lanes read ahead. What comes out of reader was checked.
func ReadAhead(files []File, reader func(i int) io.Reader) (*Lanes, error) {
	for _, f := range files {
		if !strings.HasPrefix(f.Name, lanePrefix) {
			return nil, fmt.Errorf("the checkpoint holds %s, which is no lane", f.Name)
		}
	}
	stop := make(chan struct{})
	l := &Lanes{stop: sync.OnceFunc(func() { close(stop) })}
	for i := range files {
		r := newLaneReader(reader(i), stop)
		l.Readers, l.queues = append(l.Readers, r), append(l.queues, r.laneQueue)
	}
	return l, nil
}

// GiveUp has nothing wait for a lane any more but what reads its file.
func (l *Lanes) GiveUp() { l.stop() }

// Wait gives all up, and returns when no file is read any more, which may take long.
func (l *Lanes) Wait() {
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
