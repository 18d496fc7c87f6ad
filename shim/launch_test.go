package shim

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/testenv"
)

// heldUp has the job read a file whose lease delays every open. The delay ends when letGo
// is called or the kernel breaks the lease.
func (s *scene) heldUp(t *testing.T) (letGo func()) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "leased"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		testenv.Missing(t, "no lease can be had in %s: %v", dir, err)
	}
	ns := &s.cfg.Launch.Namespaces
	ns.Mounts = append(ns.Mounts, namespaces.Mount{Source: dir, Target: "/tmp/held"})
	ns.Stdin = "/tmp/held/leased"
	return func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAStartThatTakesTooLongIsGivenUp(t *testing.T) {
	s := newScene(t, "exit 0")
	s.heldUp(t)
	s.cfg.Launch.Within = time.Second
	c, err := Start(s.cfg, s.logDir)
	if err == nil || !strings.Contains(err.Error(), "did not run within") {
		t.Fatalf("%v, %v", c, err)
	}
	eventually(t, "the shim is gone", func() bool {
		_, err := Find(s.cfg.RunDir).Status(testenv.Bounded(t))
		return errors.Is(err, ErrGone)
	})
	eventually(t, "nothing is in the cgroup", func() bool {
		pids, err := s.cfg.Cgroup.Pids()
		return err == nil && len(pids) == 0
	})
	if rec := s.record(t); rec.Exit != nil {
		t.Errorf("an end was written down: %+v", rec.Exit)
	}
}

func TestAShimAnswersWhileItsJobIsBeingStarted(t *testing.T) {
	s := newScene(t, "exec sleep 1000")
	letGo := s.heldUp(t)
	started := make(chan error, 1)
	go func() {
		_, err := Start(s.cfg, s.logDir)
		started <- err
	}()
	c := Find(s.cfg.RunDir)
	eventually(t, "it answers", func() bool {
		st, err := c.Status(testenv.Bounded(t))
		return err == nil && st.State == Starting
	})
	if err := c.Signal(testenv.Bounded(t), syscall.SIGTERM); err == nil || !strings.Contains(err.Error(), "starting") {
		t.Errorf("signal: %v", err)
	}
	if err := c.Drop(testenv.Bounded(t)); err == nil || !strings.Contains(err.Error(), "cannot drop: the job is starting") {
		t.Errorf("drop: %v", err)
	}
	letGo()
	if err := <-started; err != nil || state(t, c) != Running {
		t.Errorf("it is %s: %v", state(t, c), err)
	}
}
