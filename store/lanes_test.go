package store

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

type stuck struct{ asked, back chan struct{} }

func (s stuck) Read([]byte) (int, error) {
	s.asked <- struct{}{}
	<-s.back
	return 0, io.EOF
}

func (s stuck) Write(p []byte) (int, error) {
	s.asked <- struct{}{}
	<-s.back
	return len(p), nil
}

func TestAFileServerThatIsAwayHoldsUpNobodyButWhoWritesToIt(t *testing.T) {
	server, stop := stuck{make(chan struct{}), make(chan struct{})}, make(chan struct{})
	var count atomic.Int64
	l := NewLaneWriter(osthread.User{}, server, &count, stop)
	written := make(chan error)
	go func() {
		_, err := l.Write(make([]byte, (laneBuffers+2)*laneBuffer)) // more than waits in memory
		written <- err
	}()
	<-server.asked
	close(stop)
	if err := <-written; !errors.Is(err, errGivenUp) {
		t.Errorf("got %v", err)
	}
	if err := l.Finish(); !errors.Is(err, errGivenUp) {
		t.Errorf("got %v", err)
	}
	close(server.back)
	<-l.done
}

func TestAFileServerThatIsAwayHoldsUpNobodyButWhoReadsFromIt(t *testing.T) {
	server, stop := stuck{make(chan struct{}), make(chan struct{})}, make(chan struct{})
	l := newLaneReader(server, stop)
	read := make(chan error)
	go func() {
		_, err := l.Read(make([]byte, 1))
		read <- err
	}()
	<-server.asked
	close(stop)
	if err := <-read; !errors.Is(err, errGivenUp) {
		t.Errorf("got %v", err)
	}
	close(server.back)
	<-l.done
}

// broken is a disk that takes so many bytes.
type broken int

func (b *broken) Write(p []byte) (int, error) {
	n := min(len(p), int(*b))
	if *b -= broken(n); n < len(p) {
		return n, unix.ENOSPC
	}
	return n, nil
}

func TestALaneThatCannotBeWrittenSaysSoAtTheLatestAtItsEnd(t *testing.T) {
	for _, room := range []int{0, 10, laneBuffer, 3*laneBuffer + 1} {
		var count atomic.Int64
		disk := broken(room)
		l := NewLaneWriter(osthread.User{}, &disk, &count, make(chan struct{}))
		_, err := l.Write(make([]byte, 5*laneBuffer+5))
		if finished := l.Finish(); !errors.Is(finished, unix.ENOSPC) || err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("room for %d: %v, then %v", room, err, finished)
		}
		if count.Load() != int64(room) {
			t.Errorf("room for %d: %d were written", room, count.Load())
		}
	}
}

// A restore of a user's must not wait for anything that the user has put there.
