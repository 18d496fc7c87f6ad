package shim

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestMain(m *testing.M) {
	namespaces.Stage()
	Main()
	os.Exit(m.Run())
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(testenv.Patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", testenv.Patience, what)
		}
	}
}

// scene is a node with one job's record, its cgroup and a configuration of a
// shim for it.
type scene struct {
	store  *job.Store
	cfg    Config
	logDir string
	ioDir  string
}

// newScene prepares a job that runs a shell script; "" prepares one that is to be
// restored.
func newScene(t *testing.T, script string) *scene {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	s := &scene{logDir: t.TempDir(), ioDir: t.TempDir()}
	var err error
	if s.store, err = job.OpenStore(filepath.Join(dir, "jobs")); err != nil {
		t.Fatal(err)
	}
	id := job.NewID()
	rec := job.Record{ID: id, Spec: job.Spec{Args: []string{"sh"}}, Created: time.Now(), CPUBefore: time.Hour, Placements: []job.Placement{{Node: "here", From: time.Now()}}}
	if err := s.store.Create(rec); err != nil {
		t.Fatal(err)
	}
	cg, err := cgroup.New(os.Getpid(), "migrate-test-"+string(id))
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	s.cfg = Config{Job: id, Records: filepath.Join(dir, "jobs"), RunDir: filepath.Join(dir, "run"), Cgroup: *cg}
	if script != "" {
		s.cfg.Launch = &Launch{Within: testenv.Patience, Namespaces: namespaces.Config{
			Hostname: "job", RootDir: s.cfg.RootDir(), Root: "/", IODir: s.ioDir, WorkDir: "/",
			Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"},
			Stdin: "/dev/null", Stdout: namespaces.IOMount + "/stdout", Stderr: namespaces.IOMount + "/stderr",
		}}
	}
	t.Cleanup(func() { s.end(t) })
	return s
}

// end takes down what a test left standing.
func (s *scene) end(t *testing.T) {
	cg := s.cfg.Cgroup
	if err := cg.Kill(testenv.Bounded(t)); err != nil {
		t.Error(err)
	}
	if err := Find(s.cfg.RunDir).Drop(testenv.Bounded(t)); err != nil && !strings.Contains(err.Error(), "cannot drop") {
		t.Error(err)
	}
	eventually(t, "the shim is gone", func() bool {
		_, err := Find(s.cfg.RunDir).Status(testenv.Bounded(t))
		return errors.Is(err, ErrGone)
	})
	eventually(t, "cgroup removed", func() bool { return cg.Remove() == nil })
}

func (s *scene) start(t *testing.T) *Client {
	t.Helper()
	c, err := Start(s.cfg, s.logDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *scene) record(t *testing.T) job.Record {
	t.Helper()
	rec, err := s.store.Get(s.cfg.Job)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// over waits until the shim has ended and returns the record that it left.
func (s *scene) over(t *testing.T) job.Record {
	t.Helper()
	eventually(t, "the shim is gone", func() bool {
		_, err := Find(s.cfg.RunDir).Status(testenv.Bounded(t))
		return errors.Is(err, ErrGone)
	})
	return s.record(t)
}

// nothingLeft checks that the shim has cleaned up behind the job.
func (s *scene) nothingLeft(t *testing.T) {
	t.Helper()
	eventually(t, "the run directory is gone", func() bool {
		_, err := os.Stat(s.cfg.RunDir)
		return errors.Is(err, os.ErrNotExist)
	})
	for _, dir := range s.cfg.Cgroup.Dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("cgroup %s is still there: %v", dir, err)
		}
	}
}

func state(t *testing.T, c *Client) State {
	t.Helper()
	st, err := c.Status(testenv.Bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return st.State
}
