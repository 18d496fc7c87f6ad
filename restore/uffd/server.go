package uffd

import (
	"context"
	"encoding/binary"
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

	// What comes while the server runs; see supply.go. The lock is taken before that of any space, for
	// writing where pages become available.
	supply       sync.RWMutex
	incomplete   bool
	pushEnded    bool          // what the store has is as of the freeze; also under mu
	opened       chan struct{} // closed when Serve has the store, or has failed
	lazy         map[stream.VPID][]pageset.Range
	pending      map[stream.VPID]*pageset.Set // by origin: not known to be as of the freeze
	tasksSeen    map[stream.VPID]bool         // handed over by CRIU
	supplyClosed bool                         // Serve has ended
	serveErr     error

	fdHolder FDHolder // may be nil
	store    *pagestore.Store
	memory   []byte                  // the store's data file
	cancel   context.CancelCauseFunc // ends receive
	epoll    int
	wakeup   int // eventfd that ends the readers

	mu         sync.Mutex
	changed    sync.Cond // with mu: something that pick looks at
	spaces     []*space
	lastID     int32
	filling    bool
	finished   bool          // CRIU has let the tasks go
	generation uint64        // counts what Requests has to look at
	requests   *requestState // nil: no call of Requests is under way
	err        error
	stats      Stats
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
	s := &Server{listener: l, socket: filepath.Join(workDir, socketName), done: make(chan struct{}), epoll: -1, wakeup: -1,
		opened: make(chan struct{}), tasksSeen: make(map[stream.VPID]bool)}
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
	s.wakeRequests()
	if !s.over() || s.wakeup < 0 {
		return
	}
	one := binary.NativeEndian.AppendUint64(nil, 1)
	if _, err := unix.Write(s.wakeup, one); err != nil && s.err == nil {
		s.err = fmt.Errorf("wake the readers: %w", err)
	}
}

func (s *Server) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// requestState is what one call of Requests has requested and not got yet, by origin.
type requestState struct {
	asked         map[stream.VPID]*pageset.Set
	askedUrgently map[stream.VPID]*pageset.Set // urgently
	bytes         int64                        // asked
	urgent        []PageRequest                // to be handed out
	run           int64
	next          int // the address space to look at next
}

// PageRequest names memory that is requested, by its address at the freeze. A thread waits for an
// urgent one.
type PageRequest struct {
	VPID   stream.VPID `json:"vpid"`
	Addr   uint64      `json:"addr"`
	Pages  int64       `json:"pages"`
	Urgent bool        `json:"urgent,omitempty"`
}

const (
	// RequestWindow bounds what is requested and has not arrived, in bytes; urgent requests come on
	// top. It covers a link of 10 Gbit/s for 25 ms.
	RequestWindow = 32 << 20
	// MaxRequests bounds how many are returned at once.
	MaxRequests = 64

	minRequest = 64 * stream.PageSize // the background's runs grow from here
	maxRequest = stream.MaxRunPages * stream.PageSize
)

// wakeRequests has Requests look again. The caller holds mu.
func (s *Server) wakeRequests() {
	s.generation++
	s.changed.Broadcast()
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
