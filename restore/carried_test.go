package restore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
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

func (m *madeUp) want(t *testing.T, stages ...string) {
	t.Helper()
	if !slices.Equal(m.stages, stages) {
		t.Errorf("got %q, want %q", m.stages, stages)
	}
}

func (m *madeUp) table() carry.Table {
	return carry.Table{{Name: "made up",
		Receiver: func() carry.Receiver { return madeUpReceiver{m} },
		Restorer: func(carry.Env) carry.Restorer { return madeUpRestorer{m} },
	}}
}

type madeUpReceiver struct{ *madeUp }

func (madeUpReceiver) Kinds() []uint16 { return []uint16{77} }
func (m madeUpReceiver) Read(s *stream.Reader, count func(int)) error {
	frame, err := s.ReadFrame()
	if err != nil {
		return err
	}
	count(len(frame))
	if _, err = s.ReadFrame(); err != io.EOF {
		return err
	}
	return m.stage("read " + string(frame))
}
func (m madeUpReceiver) Complete() error { return m.stage("complete") }
func (m madeUpReceiver) Mounts() map[string]*os.File {
	return map[string]*os.File{"/made/up": os.Stdin}
}
func (m madeUpReceiver) Close() error { return m.stage("close") }

type madeUpRestorer struct{ *madeUp }

func (m madeUpRestorer) Prepare() error            { return m.stage("prepare") }
func (m madeUpRestorer) NamespacesMade(int) error  { return m.stage("namespaces made") }
func (m madeUpRestorer) NamespacesReady(int) error { return m.stage("namespaces ready") }
func (m madeUpRestorer) Parked() error             { return m.stage("parked") }
func (m madeUpRestorer) Commit() error             { return m.stage("commit") }
func (m madeUpRestorer) Undo() error               { return m.stage("undo") }
func (m madeUpRestorer) Recover() error            { return m.stage("recover") }

func TestStreamsOfAResourceAreItsOwnUntilAllImagesAreHere(t *testing.T) {
	m := &madeUp{}
	in := incoming(t)
	in.carried = m.table().Receivers()
	l := whole(newLane(t)).stream(77, []byte("one")).stream(77, []byte("two"))
	if err := in.Receive(testenv.Bounded(t), []io.Reader{l.end().reader()}); err != nil {
		t.Fatal(err)
	}
	if mounts := in.Mounts(); mounts["/made/up"] != os.Stdin || len(mounts) != 1 {
		t.Errorf("got %v", mounts)
	}
	if err := in.CloseMounts(); err != nil {
		t.Error(err)
	}
	m.want(t, "read one", "read two", "complete", "close")

	for stage, l := range map[string]*lane{
		"read late": whole(newLane(t)).stream(stream.KindReady).stream(77, []byte("late")), // it must not be called
		"complete":  whole(newLane(t)),
	} {
		m := &madeUp{breakAt: stage}
		in := incoming(t)
		in.carried = m.table().Receivers()
		if err := in.Receive(testenv.Bounded(t), []io.Reader{l.end().reader()}); err == nil || slices.Contains(m.stages, "read late") {
			t.Errorf("%s: %v after %q", stage, err, m.stages)
		}
	}
}

// parkedWith is what Open makes of a plan for a job that has the made-up resource and no other.
func parkedWith(t *testing.T, m *madeUp) *Parked {
	t.Helper()
	testenv.NeedRoot(t)
	cg, err := cgroup.New(os.Getpid(), fmt.Sprintf("migrate-test-restore-%d-%s", os.Getpid(), filepath.Base(t.TempDir())))
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	t.Cleanup(func() {
		if err := cg.Remove(); err != nil {
			t.Error(err)
		}
	})
	plan := planOf(imagesOf(t, "root's"), "root's")
	plan.Store, plan.Work, plan.RestoreEnv = t.TempDir(), t.TempDir(), namespaces.RestoreEnv{Cgroup: cg}
	store, err := pagestore.Create(plan.Store)
	if err == nil {
		err = errors.Join(store.Close(), os.WriteFile(filepath.Join(plan.Images, "pagemap-1.img"), pagemap(t), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(testenv.Bounded(t), plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.carried = m.table().Restorers(plan.env())
	return p
}

func TestAResourceIsUndoneAfterARestoreThatFailed(t *testing.T) {
	path, err := criu.Find("")
	if err != nil {
		testenv.Missing(t, "%v", err)
	}
	client := criu.New(path, t.TempDir(), slog.New(slog.DiscardHandler))
	for _, stage := range []string{"", "prepare"} { // without, CRIU finds that images are missing
		m := &madeUp{breakAt: stage}
		p := parkedWith(t, m)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		standby, err := client.Start(testenv.Bounded(t), criu.Run{})
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		p.plan.Prestarted = &PrestartedCRIU{criu: standby, entered: r}
		if err := p.Park(testenv.Bounded(t), client, slog.New(slog.DiscardHandler)); err == nil || errors.Is(err, errMadeUp) != (stage != "") {
			t.Errorf("broken at %q: %v", stage, err)
		}
		m.want(t, "prepare", "undo")
	}
}

// sleeper starts a process.
func sleeper(t *testing.T, flags uintptr) (pid int) {
	t.Helper()
	cmd := exec.Command("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "sleep", "1000") // as every job has it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: flags & unix.CLONE_NEWTIME, Cloneflags: flags &^ unix.CLONE_NEWTIME}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have been killed
		_ = cmd.Wait()
	})
	testenv.Eventually(t, func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		return err != nil || string(comm) == "sleep\n"
	})
	return cmd.Process.Pid
}

// job starts a process in the cgroup of the plan and returns the check that it passes.
func (p *Parked) job(t *testing.T) (pid int, who *identityCheck) {
	t.Helper()
	pid = sleeper(t, unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|unix.CLONE_NEWNET|unix.CLONE_NEWCGROUP|unix.CLONE_NEWTIME)
	if err := p.plan.RestoreEnv.Cgroup.Enter(pid); err != nil {
		t.Fatal(err)
	}
	who = &identityCheck{plan: p.plan, criuPID: sleeper(t, 0)}
	var err error
	if who.want, err = who.read(pid); err != nil {
		t.Fatal(err)
	}
	for _, thread := range who.want.Threads {
		who.plan.Rule.Groups = thread.Groups
	}
	return pid, who
}

func TestAResourceOfTheTableHasItsTurnAtEveryStage(t *testing.T) {
	for _, end := range []string{"commit", "undo"} {
		t.Run(end, func(t *testing.T) {
			m := &madeUp{breakAt: "commit"} // and the job runs all the same
			p, ctx := parkedWith(t, m), testenv.Bounded(t)
			pid, who := p.job(t)
			arrived := make(chan *namespaces.Process, 1)
			notify := p.notify(image.NetworkSaved, who, arrived, slog.New(slog.DiscardHandler))
			for _, name := range []string{"setup-namespaces", "post-setup-namespaces"} {
				if err := notify(ctx, name, pid); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			var verdict error
			if end == "undo" {
				verdict = errDropped
			}
			parked := make(chan error, 1)
			go func() { parked <- notify(ctx, "post-restore", pid) }()
			select {
			case p.verdict <- verdict:
			case err := <-parked:
				t.Fatal(err)
			}
			if err := <-parked; !errors.Is(err, verdict) {
				t.Fatal(err)
			}
			if end == "commit" {
				if err := notify(ctx, "pre-resume", 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Discard(); err != nil {
				t.Error(err)
			}
			m.want(t, "namespaces made", "namespaces ready", "parked", end)
		})
	}
}

func TestARestoreIsRefusedByAResource(t *testing.T) {
	for name, stage := range map[string]string{"setup-namespaces": "namespaces made", "post-setup-namespaces": "namespaces ready"} {
		m := &madeUp{breakAt: stage}
		p := parkedWith(t, m)
		notify := p.notify(image.NetworkSaved, nil, nil, slog.New(slog.DiscardHandler))
		if err := notify(testenv.Bounded(t), name, os.Getpid()); !errors.Is(err, errMadeUp) {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.Discard(); err != nil {
			t.Error(err)
		}
		m.want(t, stage, "undo")
	}
}
