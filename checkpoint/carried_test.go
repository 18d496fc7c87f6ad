package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/testenv"
)

var errMadeUp = errors.New("broken by the test")

// madeUp is a resource that no job has. It takes down its stages, and fails at one of them.
type madeUp struct {
	breakAt string
	stages  []string
}

func (m *madeUp) stage(name string) error {
	m.stages = append(m.stages, name)
	if name == m.breakAt {
		return errMadeUp
	}
	return nil
}

func (m *madeUp) Warm(_ context.Context, _ io.Writer, tasks []carry.Task) (carry.Round, error) {
	return carry.Round{Wire: int64(len(tasks))}, m.stage("warm")
}
func (m *madeUp) Look(context.Context) error               { return m.stage("look") }
func (m *madeUp) Freeze(context.Context) ([]string, error) { return nil, m.stage("freeze") }
func (m *madeUp) LastRound(context.Context, io.Writer) (carry.Round, error) {
	return carry.Round{Looked: 4096}, m.stage("last round")
}
func (m *madeUp) Snapshot(context.Context) error { return m.stage("snapshot") }
func (m *madeUp) FixImages() error               { return m.stage("fix images") }
func (m *madeUp) Send(io.Writer) error           { return m.stage("send") }
func (m *madeUp) Thaw() error                    { return m.stage("thaw") }
func (m *madeUp) Close() error                   { return m.stage("close") }

// sceneWith is a job that CRIU can save and that has the made-up resource and no other.
func sceneWith(t *testing.T, m *madeUp) *Source {
	t.Helper()
	path, err := criu.Find("")
	if err != nil {
		testenv.Missing(t, "%v", err)
	}
	cmd := exec.Command("sh", "-ec", `mount --make-rprivate /; mount --bind / "$0"; cd "$0"; mount -t proc proc proc; pivot_root . .; umount -l .; exec sleep 1000`, t.TempDir())
	r, w, err := os.Pipe() // a file would be one of the node, as are those that the test may have from its caller
	if err = errors.Join(err, unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: unix.CLONE_NEWTIME,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET}
	s := sceneOf(t, cmd)
	s.CRIU = criu.New(path, t.TempDir(), quiet())
	table := carry.Table{{Name: "made up", Source: func(j carry.Job) carry.Source {
		if j.Init != s.Init || j.Dir != s.Dir || j.Images != s.Images() {
			t.Errorf("it is told of %+v", j)
		}
		return m
	}}}
	s.carried = &carried{sources: table.Sources(s.job())}
	return s
}

func TestAResourceOfTheTableHasItsTurnAtEveryStage(t *testing.T) {
	m := &madeUp{}
	s, ctx := sceneWith(t, m), testenv.Bounded(t)
	lanes := []io.Writer{&bytes.Buffer{}} // with one lane, the last round is up to Send
	round, err := s.PreCopy(ctx, lanes)
	if err == nil {
		err = errors.Join(s.Look(ctx), s.Freeze(ctx))
	}
	if err == nil {
		_, err = s.Dump(ctx, lanes)
	}
	if err != nil {
		log, _ := os.ReadFile(s.DumpLog())
		t.Fatalf("%v\n%s", err, log)
	}
	sent, err := s.Send(ctx, lanes)
	if err = errors.Join(err, s.Thaw(ctx), s.Close()); err != nil {
		t.Fatal(err)
	}
	want := []string{"warm", "look", "freeze", "snapshot", "fix images", "last round", "send", "thaw", "close"}
	if !slices.Equal(m.stages, want) {
		t.Errorf("got %q, want %q", m.stages, want)
	}
	if round.Wire < 1 || sent.Shared.Compared != 4096 {
		t.Errorf("what it sent is not counted: %+v, %+v", round, sent.Shared)
	}
}

func TestAResourceIsThawedAfterAnErrorAtAnyStage(t *testing.T) {
	for _, stage := range []string{"warm", "look", "freeze", "snapshot", "fix images", "last round", "send", "thaw"} {
		t.Run(stage, func(t *testing.T) {
			m := &madeUp{breakAt: stage}
			s, ctx := sceneWith(t, m), testenv.Bounded(t)
			lanes := []io.Writer{&bytes.Buffer{}}
			err := func() error {
				if _, err := s.PreCopy(ctx, lanes); err != nil {
					return err
				}
				if err := s.Look(ctx); err != nil {
					return err
				}
				if err := s.Freeze(ctx); err != nil {
					return err
				}
				if _, err := s.Dump(ctx, lanes); err != nil {
					return err
				}
				_, err := s.Send(ctx, lanes)
				return err
			}()
			if stage != "thaw" && !errors.Is(err, errMadeUp) || stage == "thaw" && err != nil {
				t.Errorf("got %v", err)
			}
			if err := s.Thaw(ctx); err != nil {
				t.Errorf("the job does not run on: %v", err)
			}
			if err := s.StillFrozen(ctx); err == nil || !strings.Contains(err.Error(), "thawed") {
				t.Errorf("the job does not run on: %v", err)
			}
			if last := m.stages[len(m.stages)-1]; last != "thaw" {
				t.Errorf("got %q", m.stages)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
