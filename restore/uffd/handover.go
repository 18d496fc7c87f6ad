package uffd

import (
	"errors"
	"fmt"
	"io"
)

// handover is how the tasks come from CRIU.
type handover struct {
	server *Server
	conn   criuConn
}

// receive receives the tasks from CRIU until it has let them go.
func (h *handover) receive() error {
	for {
		said, err := h.conn.next()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("CRIU closed the connection before the restore was finished")
		case err != nil:
			return fmt.Errorf("hear from CRIU: %w", err)
		case said.finished:
			return h.finish()
		case said.zombie:
			h.server.count(func(st *Stats) { st.Zombies++ })
			continue
		}
		if err := h.addTask(said); err != nil {
			return err
		}
	}
}

// addTask adds the memory of a task. No page arrives between the look at what the task lacks
// and its entry in the list of address spaces.
func (h *handover) addTask(task hello) error {
	s := h.server
	s.supply.mu.Lock()
	defer s.supply.mu.Unlock()
	sp := &space{server: s, vpid: task.vpid, pid: task.pid, fd: task.fd}
	again := s.supply.tasksSeen[task.vpid]
	if !again {
		s.supply.tasksSeen[task.vpid] = true
		sp.table = s.supply.tableFor(task.vpid)
	}
	s.count(func(st *Stats) { st.Tasks++ })
	if err := s.add(sp); err != nil {
		return err
	}
	if again {
		return fmt.Errorf("CRIU restores task %d twice", task.vpid)
	}
	return nil
}

// finish notes that CRIU has let the tasks go.
func (h *handover) finish() error {
	s := h.server
	if n := s.supply.unseenBytes(); n > 0 {
		return fmt.Errorf("CRIU has finished, but %d bytes belong to tasks that it did not restore", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished, s.filling = true, true
	s.wakeIfOver()
	return nil
}
