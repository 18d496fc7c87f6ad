package shim

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/restore/uffd"
)

// shim is the process's state. Everything that outlives it is on disk or in the
// kernel.
type shim struct {
	cfg    Config
	store  *job.Store
	log    *slog.Logger
	server *http.Server
	listen net.Listener
	done   chan struct{} // closed when nothing is left to do

	stateChange sync.Mutex     // one change of state at a time; held while it takes place
	filling     sync.WaitGroup // the fault server and what it leaves to be freed

	mu       sync.Mutex // the fields below
	state    State
	init     *namespaces.Process
	exit     *job.Exit     // how the job ended, as long as that is not in its record
	opened   chan struct{} // closed while memory is set
	memory   *uffd.Server  // of the job that is being restored, or was
	parked   *restore.Parked
	guard    *guard
	volatile string

	prestarted prestarted // of turn

	output *outputLimiter // nil: the job's output is not limited
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
	defer s.mu.Unlock()
	st := Status{State: s.state, Shim: os.Getpid(), Exit: s.exit}
	if s.init != nil {
		st.Init = s.init.Pid
	}
	if s.memory != nil {
		st.Filled, st.Total = s.memory.Progress()
		st.Absent = s.memory.Absent()
		select {
		case <-s.memory.Done():
		default:
			st.Filling = true
		}
	}
	return st
}

// answer runs one request and replies with the status after it. The body may have most bytes, any
// number for 0.
func (s *shim) answer(do func(*http.Request) error, most int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if most > 0 {
			r.Body = http.MaxBytesReader(w, r.Body, most)
		}
		err := do(r)
		w.Header().Set("Content-Type", "application/json")
		var reply any = s.status()
		if err != nil {
			w.WriteHeader(http.StatusConflict)
			reply = failure{err.Error()}
		}
		_ = json.NewEncoder(w).Encode(reply)
	}
}

const maxRequest = 1 << 20

// prestarted is what a waiting shim has started before the restore, while the job still runs
// elsewhere.
type prestarted struct {
	guard *guard
	criu  *restore.PrestartedCRIU
	store *pagestore.Follower
}

// use hands everything over. It starts a missing guard; the others may be nil.
func (s *prestarted) use(runDir string) (prestarted, error) {
	if s.guard == nil {
		var err error
		if s.guard, err = startGuard(runDir); err != nil {
			return prestarted{}, err
		}
	}
	all := *s
	*s = prestarted{}
	return all, nil
}

func (s *prestarted) close() {
	s.criu.Close()
	s.store.Close()
	if s.guard != nil {
		_ = s.guard.dismiss() // it holds nothing
	}
	*s = prestarted{}
}

func (s *shim) criuClient() *criu.Client { return criu.New(s.cfg.CRIU, s.cfg.KdatDir, s.log) }
