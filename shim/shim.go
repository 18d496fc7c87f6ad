package shim

import (
	"log/slog"
	"os"
	"sync"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/restore"
)

// shim is the process's state. Everything that outlives it is on disk or in the
// kernel.
type shim struct {
	cfg  Config
	log  *slog.Logger
	done chan struct{} // closed when nothing is left to do

	recorder recorder
	memory   memory
	output   *outputLimiter // nil: the job's output is not limited

	stateChange sync.Mutex     // one change of state at a time; held while it takes place
	filling     sync.WaitGroup // the fault server and what it leaves to be freed

	mu       sync.Mutex // the fields below
	state    State
	init     *namespaces.Process
	exit     *job.Exit // how the job ended, as long as that is not in its record
	parked   *restore.Parked
	waits    bool // see Status
	guard    *guard
	volatile string

	prestarted prestarted // under stateChange
}

func (s *shim) setState(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

func (s *shim) currentState() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *shim) status() Status {
	s.mu.Lock()
	st := Status{State: s.state, Shim: os.Getpid(), Exit: s.exit, Waits: s.waits}
	if s.init != nil {
		st.Init = s.init.Pid
	}
	s.mu.Unlock()
	if server, _ := s.memory.now(); server != nil {
		st.Filled, st.Total = server.Progress()
		st.Absent = server.Absent()
		select {
		case <-server.Done():
		default:
			st.Filling = true
		}
	}
	return st
}

func (s *shim) criuClient() *criu.Client { return criu.New(s.cfg.CRIU, s.cfg.KdatDir, s.log) }
