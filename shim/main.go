package shim

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
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
	served := s.serve() // a status request during the start must not wait
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

func prepare(runDir string) (*shim, error) {
	cfg, err := readConfig(runDir)
	if err != nil {
		return nil, err
	}
	// The shim outlives the terminal and the session in which the agent was started.
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
		if s.output, err = newOutputLimiter(*cfg.Output, store); err != nil {
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
	// The request that ends the job gets its answer before the process exits.
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // a request that still sends pages is not needed
	}
}

// answerTime is how long the end of a shim waits for requests under way.
const answerTime = 5 * time.Second
