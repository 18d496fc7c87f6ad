package uffd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// errStopped ends what still runs when another part has failed.
var errStopped = errors.New("fault server stops")

// Stats is what a Server did. Sizes are in bytes.
type Stats struct {
	Tasks, Zombies, Forks int64
	Faults, ZeroFaults    int64 // faults served from the store, with the zero page
	Changes               int64 // messages read, faults included
	Filled                int64 // brought to address spaces, by faults or in the background
	Duration              time.Duration
}

// Server is the fault server of one restore. Use: Listen, then start CRIU, then Serve, at last
// Close.
type Server struct {
	listener *net.UnixListener
	socket   string // path of the socket
	done     chan struct{}
	filled   atomic.Int64
	total    atomic.Int64
	absent   atomic.Int64 // of the total, what has not arrived

	supply   supply   // what comes while the server runs
	requests requests // what is asked for meanwhile

	fdHolder FDHolder // may be nil
	store    *pagestore.Store
	memory   []byte                  // the store's data file
	cancel   context.CancelCauseFunc // ends receive
	poller   poller

	mu       sync.Mutex
	changed  sync.Cond // with mu: something that a filler or Requests looks at
	spaces   []*space
	lastID   int32
	filling  bool
	finished bool // CRIU has let the tasks go
	err      error
	stats    Stats
}

// FDHolder holds every userfaultfd a second time, in a process that outlives this one for a
// moment. When the last copy is closed, the kernel lets a task read zeros where pages are missing.
// That would happen if this process were killed. The holder kills the tasks first.
type FDHolder interface {
	HoldFD(id int32, fd int) error // before the task can touch a missing page
	DropFD(id int32) error         // the task lacks nothing or is gone
}

// SetFDHolder sets the holder. It must be called before Serve.
func (s *Server) SetFDHolder(k FDHolder) { s.fdHolder = k }

// Listen makes the socket to which CRIU connects, in CRIU's work directory. It accepts only
// processes of our own user.
func Listen(workDir string) (*Server, error) {
	l, err := listen(workDir)
	if err != nil {
		return nil, fmt.Errorf("listen for CRIU in %s: %w", workDir, err)
	}
	s := &Server{listener: l, socket: filepath.Join(workDir, socketName), done: make(chan struct{}), poller: poller{-1, -1}}
	s.supply = supply{server: s, opened: make(chan struct{}), tasksSeen: make(map[stream.VPID]bool)}
	s.requests.server = s
	s.changed.L = &s.mu
	return s, nil
}

// over tells whether there is nothing left to do. The caller holds mu.
func (s *Server) over() bool {
	return s.err != nil || s.finished && len(s.spaces) == 0
}

func (s *Server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over()
}

// fail ends Serve with err. The address spaces stay as they are.
func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.cancel(err)
	}
	s.wakeIfOver()
}

func (s *Server) wakeIfOver() {
	s.requests.wake()
	if !s.over() {
		return
	}
	if err := s.poller.wake(); err != nil && s.err == nil {
		s.err = fmt.Errorf("wake the readers: %w", err)
	}
}

func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

func (s *Server) living() []*space {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*space(nil), s.spaces...)
}

func (s *Server) spacesOf(vpid stream.VPID) []*space {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*space
	for _, sp := range s.spaces {
		if sp.vpid == vpid {
			out = append(out, sp)
		}
	}
	return out
}

// add adds an address space and waits for its messages.
func (s *Server) add(sp *space) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	sp.id = s.lastID
	s.spaces = append(s.spaces, sp)
	s.requests.wake()
	if err := sp.holdFD(); err != nil {
		return fmt.Errorf("have task %d kept: %w", sp.vpid, err)
	}
	if err := unix.SetNonblock(sp.fd, true); err != nil {
		return fmt.Errorf("take over task %d: %w", sp.vpid, err)
	}
	if err := s.poller.add(sp.fd, sp.id); err != nil {
		return fmt.Errorf("take over task %d: %w", sp.vpid, err)
	}
	return nil
}

func (s *Server) remove(gone *space) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, sp := range s.spaces {
		if sp == gone {
			s.spaces = append(s.spaces[:i:i], s.spaces[i+1:]...)
			break
		}
	}
	s.wakeIfOver()
}

func (s *Server) byID(id int32) *space {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spaces {
		if sp.id == id {
			return sp
		}
	}
	return nil
}

// drop forgets pages that no task can touch any more.
func (s *Server) drop(gone []pageset.Span) error {
	lacked := int64(0)
	for _, sp := range gone {
		s.total.Add(-sp.Bytes())
		if sp.Absent {
			lacked += sp.Bytes()
		}
	}
	if lacked > 0 {
		s.absent.Add(-lacked)
		s.mu.Lock()
		s.requests.wake()
		s.mu.Unlock()
	}
	return s.store.Release(gone...)
}
