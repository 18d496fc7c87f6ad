package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/restore/uffd"
)

const processName = "migrate:shim"

// reportFD is a pipe on which the shim says "ok" or why it could not start.
const reportFD = 3

// Main runs a shim if the process was started as one, and does not return then.
func Main() {
	guardMain()
	if os.Args[0] != processName || len(os.Args) != 2 {
		return
	}
	report := os.NewFile(reportFD, "report")
	unix.CloseOnExec(reportFD)
	s, err := prepare(os.Args[1])
	if err != nil {
		fail(report, err)
	}
	served := s.serve() // whoever asks during the start shall not wait for its end
	if err := s.start(); err != nil {
		fail(report, err)
	}
	_, _ = io.WriteString(report, "ok")
	_ = report.Close()
	s.serveUntilDone(served)
	os.Exit(0)
}

func fail(report *os.File, err error) {
	_, _ = io.WriteString(report, err.Error())
	_ = report.Close() // a thread that is stuck in the kernel holds up the end of the process
	os.Exit(1)
}

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

	output *outputLimiter // nil: nobody looks at what the job prints
}

func prepare(runDir string) (*shim, error) {
	cfg, err := readConfig(runDir)
	if err != nil {
		return nil, err
	}
	// The terminal or session of whoever started the agent is not ours to die with.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	if err := cgroup.Join(os.Getpid(), cfg.Join); err != nil {
		return nil, err
	}
	store, err := job.OpenStore(cfg.Records)
	if err != nil {
		return nil, err
	}
	s := &shim{cfg: cfg, store: store, done: make(chan struct{}), opened: make(chan struct{}), state: Starting}
	s.log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With(logkey.Job, cfg.Job)
	if cfg.Output != nil {
		if s.output, err = newOutputWatch(*cfg.Output, store); err != nil {
			return nil, err
		}
	}
	if s.listen, err = listenSocket(filepath.Join(runDir, socketName)); err != nil {
		return nil, err
	}
	return s, nil
}

func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// start starts the job, or gets ready to be told to restore it.
func (s *shim) start() error {
	if s.cfg.Launch == nil {
		s.prestart()
		s.setState(Waiting)
		return nil
	}
	if err := s.launch(); err != nil {
		return errors.Join(err, s.listen.Close())
	}
	return nil
}

// runJob takes charge of a job that runs from now on.
func (s *shim) runJob(p *namespaces.Process) {
	s.mu.Lock()
	s.state, s.init = Running, p
	s.mu.Unlock()
	go s.watchOutput(p)
	go s.reap(p)
}

// serve answers the agent from now on.
func (s *shim) serve() (served <-chan error) {
	s.server = &http.Server{Handler: s.routes()}
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve(s.listen) }()
	return ended
}

// serveUntilDone goes on until the job is over here.
func (s *shim) serveUntilDone(served <-chan error) {
	select {
	case <-s.done:
	case err := <-served:
		s.log.Error("lost the socket", logkey.Err, err)
		<-s.done
	}
	// Whoever asked for the end gets an answer before the process is gone.
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // somebody is in the middle of sending pages that nobody needs
	}
}

// awaitFilling waits for the fault server to end and to free what it held. A job
// that has ended needs no more memory, so this is soon; but nobody shall wait for
// ever for a job that is over.
func (s *shim) awaitFilling() {
	freed := make(chan struct{})
	go func() {
		s.filling.Wait()
		close(freed)
	}()
	select {
	case <-freed:
	case <-time.After(cleanUpTime):
		s.log.Error("the fault server does not end")
	}
}

// answerTime is how long the end of a shim waits for requests under way.
const answerTime = 5 * time.Second

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

// reap waits for the job's PID 1 and with it for the job: the kernel ends every
// other task of a pid namespace before its PID 1 can be reaped.
func (s *shim) reap(p *namespaces.Process) {
	ws, err := p.Wait()
	if err != nil {
		s.log.Error("wait for the job", logkey.Err, err)
	}
	if s.currentState() != Released {
		s.record(s.endOutput(s.exitOf(ws)))
		s.setState(Exited)
		s.log.Info("job ended", logkey.Code, ws.ExitStatus(), logkey.Signaled, ws.Signaled())
	}
	if err := s.cleanUp(); err != nil {
		s.log.Error("clean-up", logkey.Err, err)
	}
	close(s.done)
}

// cleanUp frees what the job had on the node. What is gone already is fine.
func (s *shim) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTime)
	defer cancel()
	s.prestarted.close()
	err := s.cfg.Cgroup.Kill(ctx) // tasks that CRIU left behind, if any
	err = errors.Join(err, s.cfg.Cgroup.Remove())
	if s.cfg.LinkName != "" {
		err = errors.Join(err, network.RemoveLink(s.cfg.LinkName))
	}
	s.awaitFilling()
	if rmErr := os.RemoveAll(s.cfg.RunDir); rmErr != nil {
		err = errors.Join(err, fmt.Errorf("run directory: %w", rmErr))
	}
	return err
}
