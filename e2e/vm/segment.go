package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Segment is an Ethernet of its own: a hub that every machine is plugged into, and
// nothing of the host is. Its cables can be pulled and slowed down.
type Segment struct {
	dir   string
	mu    sync.Mutex
	ports map[string]*port
	wait  sync.WaitGroup
}

type port struct {
	name     string
	listener net.Listener
	out      chan []byte // frames on their way to the machine; never closed
	done     chan struct{}
	conn     net.Conn
	cut      bool
	delay    time.Duration
}

const (
	maxFrame  = 64 << 10 // what virtio-net sends at most
	queueSize = 512      // frames; what does not fit is lost, as in any hub
)

// NewSegment makes an empty one whose sockets are in dir.
func NewSegment(dir string) *Segment { return &Segment{dir: dir, ports: map[string]*port{}} }

// Plug returns the socket to connect a machine to. One name is one cable: who
// connects last has it.
func (s *Segment) Plug(name string) (string, error) {
	path := filepath.Join(s.dir, "port-"+name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ports[name] != nil {
		return path, nil
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", fmt.Errorf("segment: %w", err)
	}
	p := &port{name: name, listener: l, out: make(chan []byte, queueSize), done: make(chan struct{})}
	s.ports[name] = p
	s.wait.Add(2)
	go s.accept(p)
	go s.deliver(p)
	return path, nil
}

// Cut pulls a machine's cable, Mend plugs it in again.
func (s *Segment) Cut(name string)  { s.set(name, func(p *port) { p.cut = true }) }
func (s *Segment) Mend(name string) { s.set(name, func(p *port) { p.cut = false }) }

// Slow holds up every frame to a machine by this long, one after the other, so that it
// bounds what the link carries, too; 0 ends it.
func (s *Segment) Slow(name string, by time.Duration) { s.set(name, func(p *port) { p.delay = by }) }

func (s *Segment) set(name string, change func(*port)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[name]; p != nil {
		change(p)
	}
}

// Close ends all.
func (s *Segment) Close() error {
	s.mu.Lock()
	var errs []error
	for _, p := range s.ports {
		close(p.done)
		errs = append(errs, p.listener.Close())
		if p.conn != nil {
			_ = p.conn.Close() // the machine may have gone first
		}
	}
	s.ports = map[string]*port{}
	s.mu.Unlock()
	s.wait.Wait()
	return errors.Join(errs...)
}

func (s *Segment) accept(p *port) {
	defer s.wait.Done()
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if p.conn != nil {
			_ = p.conn.Close()
		}
		p.conn = conn
		s.mu.Unlock()
		s.wait.Add(1)
		go s.read(p, conn)
	}
}

// read takes frames from a machine: their length in 4 bytes, most significant first,
// before each.
func (s *Segment) read(from *port, conn net.Conn) {
	defer s.wait.Done()
	defer conn.Close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > maxFrame+1024 {
			fmt.Fprintf(os.Stderr, "segment: %s sends a frame of %d bytes\n", from.name, size)
			return
		}
		frame := make([]byte, 4+size)
		copy(frame, head[:])
		if _, err := io.ReadFull(conn, frame[4:]); err != nil {
			return
		}
		s.spread(from, frame)
	}
}

func (s *Segment) spread(from *port, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, to := range s.ports {
		if to == from || to.cut || from.cut {
			continue
		}
		select {
		case to.out <- frame:
		default:
		}
	}
}

func (s *Segment) deliver(p *port) {
	defer s.wait.Done()
	for {
		var frame []byte
		select {
		case <-p.done:
			return
		case frame = <-p.out:
		}
		s.mu.Lock()
		conn, delay, cut := p.conn, p.delay, p.cut
		s.mu.Unlock()
		if delay > 0 {
			time.Sleep(delay)
		}
		if conn != nil && !cut {
			_, _ = conn.Write(frame) // a machine that is off loses its frames
		}
	}
}
