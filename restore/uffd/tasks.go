package uffd

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// receive receives the tasks from CRIU until it has let them go.
func (s *Server) receive(conn criuConn) error {
	for {
		h, err := conn.next()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("CRIU closed the connection before the restore was finished")
		case err != nil:
			return fmt.Errorf("hear from CRIU: %w", err)
		case h.finished:
			return s.finish()
		case h.zombie:
			s.count(func(st *Stats) { st.Zombies++ })
			continue
		}
		if err := s.addTask(h); err != nil {
			return err
		}
	}
}

// addTask adds the memory of a task.
func (s *Server) addTask(h hello) error {
	s.supply.Lock()
	defer s.supply.Unlock()
	sp := &space{vpid: h.vpid, pid: h.pid, fd: h.fd}
	again := s.tasksSeen[h.vpid]
	if !again {
		s.tasksSeen[h.vpid] = true
		sp.table = s.tableFor(h.vpid)
	}
	s.count(func(st *Stats) { st.Tasks++ })
	if err := s.add(sp); err != nil {
		return err
	}
	if again {
		return fmt.Errorf("CRIU restores task %d twice", h.vpid)
	}
	return nil
}

// finish notes that CRIU has let the tasks go.
func (s *Server) finish() error {
	if n := s.unseenBytes(); n > 0 {
		return fmt.Errorf("CRIU has finished, but %d bytes belong to tasks that it did not restore", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished, s.filling = true, true
	s.wakeIfOver()
	return nil
}

// unseenBytes is how much memory belongs to tasks that CRIU has not handed over.
func (s *Server) unseenBytes() (n int64) {
	s.supply.RLock()
	defer s.supply.RUnlock()
	for vpid := range s.lazy {
		if !s.tasksSeen[vpid] {
			n += s.store.BytesOf(vpid) + s.pendingOf(vpid).Data
		}
	}
	return n
}

// add adds an address space and waits for its messages.
func (s *Server) add(sp *space) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	sp.id = s.lastID
	s.spaces = append(s.spaces, sp)
	s.wakeRequests()
	if err := s.holdFD(sp); err != nil {
		return fmt.Errorf("have task %d kept: %w", sp.vpid, err)
	}
	if err := unix.SetNonblock(sp.fd, true); err != nil {
		return fmt.Errorf("take over task %d: %w", sp.vpid, err)
	}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, sp.fd, interest(sp)); err != nil {
		return fmt.Errorf("take over task %d: %w", sp.vpid, err)
	}
	return nil
}

// interest is for one message, so that one reader at a time handles an address space.
func interest(sp *space) *unix.EpollEvent {
	return &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: sp.id}
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

// readFaults handles the messages of address spaces. It waits in the kernel and not in Go's
// poller, which does not run while all cores are copying.
func (s *Server) readFaults() {
	ready := make([]unix.EpollEvent, 1)
	for {
		n, err := linux.RetryValue(func() (int, error) { return unix.EpollWait(s.epoll, ready, -1) })
		if err != nil {
			s.fail(fmt.Errorf("wait for faults: %w", err))
			return
		}
		if s.stopped() {
			return
		}
		sp := s.byID(ready[0].Fd)
		if n == 0 || sp == nil {
			continue
		}
		if err := s.handleAndRearm(sp); err != nil {
			s.fail(err)
			return
		}
	}
}

func (s *Server) handleAndRearm(sp *space) error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed {
		return nil
	}
	if err := s.process(sp); err != nil || sp.closed {
		return err
	}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, sp.fd, interest(sp)); err != nil {
		return fmt.Errorf("wait for faults of task %d: %w", sp.vpid, err)
	}
	return nil
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
