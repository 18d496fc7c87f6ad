package shim

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

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
	served := s.begin() // a status request during the start must not wait
	if err := s.shim.start(); err != nil {
		fail(report, errors.Join(err, s.listen.Close()))
	}
	_, _ = io.WriteString(report, "ok")
	_ = report.Close()
	s.untilDone(served)
	os.Exit(0)
}

func fail(report *os.File, err error) {
	_, _ = io.WriteString(report, err.Error())
	_ = report.Close() // a thread that is stuck in the kernel holds up the end of the process
	os.Exit(1)
}

func prepare(runDir string) (*service, error) {
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
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With(logkey.Job, cfg.Job)
	s := &shim{cfg: cfg, log: log, done: make(chan struct{}), state: Starting}
	s.recorder = recorder{store, cfg.Job, log}
	s.memory.opened = make(chan struct{})
	if s.output, err = newOutputLimiter(cfg, store, log); err != nil {
		return nil, err
	}
	listen, err := listenSocket(filepath.Join(runDir, socketName))
	if err != nil {
		return nil, err
	}
	return &service{shim: s, listen: listen}, nil
}

// start starts the job, or gets ready to be told to restore it.
func (s *shim) start() error {
	if s.cfg.Launch == nil {
		s.prestarted.start(s.cfg, s.criuClient(), s.log)
		s.setState(Waiting)
		return nil
	}
	return s.launch()
}
