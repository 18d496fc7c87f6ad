package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/restore"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestTheEndOfAJobIsWrittenDownAndNothingIsLeft(t *testing.T) {
	for script, want := range map[string]job.Exit{
		"exit 41":                   {Code: 41},
		"exit 0":                    {Code: 0},
		"read gone </dev/job/never": {Code: 2},
		"exec sleep 1000":           {Code: 128 + 9, Signal: 9},
		"trap 'exit 3' TERM; while :; do :; done": {Code: 3},
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, script)
			c := s.start(t)
			if sig := map[int]syscall.Signal{137: syscall.SIGKILL, 3: syscall.SIGTERM}[want.Code]; sig != 0 {
				eventually(t, "it runs", func() bool { return state(t, c) == Running && s.busy(t, sig) })
				if err := c.Signal(testenv.Bounded(t), sig); err != nil {
					t.Fatal(err)
				}
			}
			rec := s.over(t)
			if rec.Exit == nil || rec.Exit.Code != want.Code || rec.Exit.Signal != want.Signal {
				t.Fatalf("written down: %+v, want %+v", rec.Exit, want)
			}
			if rec.Exit.CPU <= rec.CPUBefore || rec.Exit.CPU > rec.CPUBefore+time.Minute {
				t.Errorf("CPU time %v; %v on earlier nodes", rec.Exit.CPU, rec.CPUBefore)
			}
			if time.Since(rec.Exit.At) > time.Minute || !rec.Placements[0].To.Equal(rec.Exit.At) {
				t.Errorf("ended at %v, stayed until %v", rec.Exit.At, rec.Placements[0].To)
			}
			s.nothingLeft(t)
		})
	}
}

// busy tells whether the job's command is ready for the signal: a shell has to
// have set its trap.
func (s *scene) busy(t *testing.T, sig syscall.Signal) bool {
	if sig == syscall.SIGKILL {
		return true
	}
	st, err := Find(s.cfg.RunDir).Status(testenv.Bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.Init))
	_, mask, found := strings.Cut(string(status), "SigCgt:\t")
	var caught uint64
	if n, _ := fmt.Sscanf(mask, "%x", &caught); err != nil || !found || n != 1 {
		return false
	}
	return caught&(1<<(sig-1)) != 0
}

func TestTasksThatOutliveTheirParentEndWithTheJob(t *testing.T) {
	s := newScene(t, "(sleep 1000 &) ; (sleep 1000 &); exit 7")
	s.start(t)
	if rec := s.over(t); rec.Exit == nil || rec.Exit.Code != 7 {
		t.Errorf("written down: %+v", rec.Exit)
	}
	s.nothingLeft(t)
}

func TestAJobThatCannotStartLeavesNoShim(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"command missing":   func(c *Config) { c.Launch.Namespaces.Args = []string{"/no/such/thing"} },
		"directory missing": func(c *Config) { c.Launch.Namespaces.WorkDir = "/no/such/thing" },
		"bridge missing": func(c *Config) {
			c.Launch.Interface = &network.Interface{Name: "eth0", Host: "mgtest1", Bridge: "no-such-thing", Address: "10.3.0.7/24", MAC: "02:00:00:00:03:07"}
		},
		"nothing to join":   func(c *Config) { c.Join = map[string]string{"freezer": "/no/such/group"} },
		"cgroup gone":       func(c *Config) { _ = c.Cgroup.Remove() },
		"records not there": func(c *Config) { c.Records = "/proc/no/such-thing" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, "exit 0")
			spoil(&s.cfg)
			c, err := Start(s.cfg, s.logDir)
			if err == nil {
				t.Fatalf("it started: %v", c)
			}
			if why := map[string]string{"nothing to join": "/no/such/group", "cgroup gone": "cgroup", "records not there": "job store"}[name]; !strings.Contains(err.Error(), why) ||
				why == "" && !strings.Contains(err.Error(), "such") {
				t.Errorf("the cause is not named: %v", err)
			}
			if _, err := Find(s.cfg.RunDir).Status(testenv.Bounded(t)); !errors.Is(err, ErrGone) {
				t.Errorf("a shim answers: %v", err)
			}
			if pids, err := s.cfg.Cgroup.Pids(); err != nil || len(pids) > 0 {
				t.Errorf("in the cgroup: %v %v", pids, err)
			}
			if rec := s.record(t); rec.Exit != nil {
				t.Errorf("an end was written down: %+v", rec.Exit)
			}
		})
	}
}

func TestTheSocketIsRootsAlone(t *testing.T) {
	s := newScene(t, "exec sleep 1000")
	s.start(t)
	for name, want := range map[string]os.FileMode{socketName: 0o600, configName: 0o600} {
		st, err := os.Stat(filepath.Join(s.cfg.RunDir, name))
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s has mode %v (%v)", name, st.Mode(), err)
		}
	}
}

func TestARunningJobRefusesWhatDoesNotFit(t *testing.T) {
	s := newScene(t, "exec sleep 1000")
	c := s.start(t)
	st, err := c.Status(testenv.Bounded(t))
	if err != nil || st.State != Running || st.Init == 0 || st.Shim == 0 || st.Shim == os.Getpid() {
		t.Fatalf("%+v %v", st, err)
	}
	ctx := testenv.Bounded(t)
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"park":             {c.Park(ctx, ParkRequest{}), "cannot park: the shim is running"},
		"drop":             {c.Drop(ctx), "cannot drop: the job is running"},
		"release unfrozen": {c.Release(ctx), "not frozen"},
		"no such signal":   {c.Signal(ctx, 200), "invalid argument"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, c.err, c.want)
		}
	}
	for range 2 { // it runs, which is what is asked for
		if st, err := c.Resume(ctx); err != nil || st.State != Running {
			t.Errorf("resume: %+v %v", st, err)
		}
	}
	if c.Resumed() {
		t.Error("a job that was started here passes for one that was resumed")
	}
	if err := unix.Kill(st.Init, 0); err != nil {
		t.Errorf("the job is gone: %v", err)
	}
}

// A user who may write to another cgroup can move tasks out of a freezer.
func TestAJobThatWasTakenOutOfItsCgroupDoesNotOutliveItsRelease(t *testing.T) {
	s := newScene(t, "while :; do echo x; done")
	c := s.start(t)
	st, err := c.Status(testenv.Bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cfg.Cgroup.Freeze(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	other, err := cgroup.New(os.Getpid(), "migrate-test-other-"+string(s.cfg.Job))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "the other cgroup is gone", func() bool { return other.Remove() == nil })
	})
	if err := other.Enter(st.Init); err != nil {
		t.Fatal(err)
	}
	if err := c.Release(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	if rec := s.over(t); rec.Exit != nil {
		t.Errorf("an end was written down: %+v", rec.Exit)
	}
	s.nothingLeft(t)
}

func TestAFrozenJobIsReleasedWithoutAnEndAndNeverRunsAgain(t *testing.T) {
	s := newScene(t, "while :; do echo x; done")
	c := s.start(t)
	out := filepath.Join(s.ioDir, "stdout")
	eventually(t, "it writes", func() bool { return size(out) > 0 })
	if err := s.cfg.Cgroup.Freeze(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	stood := size(out)
	if err := c.Release(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	if rec := s.over(t); rec.Exit != nil {
		t.Errorf("an end was written down: %+v", rec.Exit)
	}
	if now := size(out); now != stood {
		t.Errorf("it ran again: %d bytes, then %d", stood, now)
	}
	s.nothingLeft(t)
	if err := c.Release(testenv.Bounded(t)); !errors.Is(err, ErrGone) {
		t.Errorf("a second release: %v", err)
	}
	if err := c.Drop(testenv.Bounded(t)); err != nil {
		t.Errorf("nobody is as good as one who dropped: %v", err)
	}
}

func size(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

func TestAWaitingShimTakesOnlyParkAndDrop(t *testing.T) {
	s := newScene(t, "")
	c := s.start(t)
	if now := state(t, c); now != Waiting {
		t.Fatalf("it is %s", now)
	}
	ctx := testenv.Bounded(t)
	if _, err := c.Resume(ctx); err == nil || !strings.Contains(err.Error(), "cannot resume: the shim is waiting") {
		t.Errorf("resume: %v", err)
	}
	if err := c.Release(ctx); err == nil || !strings.Contains(err.Error(), "cannot release: the job is waiting") {
		t.Errorf("release: %v", err)
	}
	if err := c.Signal(ctx, syscall.SIGTERM); err == nil || !strings.Contains(err.Error(), "waiting") {
		t.Errorf("signal: %v", err)
	}
	for range 2 { // a park that fails changes nothing
		err := c.Park(ctx, ParkRequest{Plan: restore.Plan{Images: filepath.Join(s.logDir, "none"), RestoreEnv: namespaces.RestoreEnv{Cgroup: &s.cfg.Cgroup}}})
		if err == nil || state(t, c) != Waiting {
			t.Fatalf("park without images: %v", err)
		}
	}
	if c.Resumed() {
		t.Error("it never ran")
	}
	if err := c.Drop(ctx); err != nil {
		t.Fatal(err)
	}
	if rec := s.over(t); rec.Exit != nil {
		t.Errorf("an end was written down: %+v", rec.Exit)
	}
	s.nothingLeft(t)
	if err := c.Drop(ctx); err != nil {
		t.Errorf("a second drop: %v", err)
	}
}

func TestADamagedConfigurationIsTold(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, configName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(dir); err == nil || !strings.Contains(err.Error(), configName) {
		t.Errorf("got %v", err)
	}
	if _, err := prepare(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestAnEndThatTheDiskDoesNotTakeIsToldAndWrittenDownLater(t *testing.T) {
	s := newScene(t, "exec sleep 100")
	c := s.start(t)
	dir := s.store.Dir(s.cfg.Job)
	refuse := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	refuse(unix.MS_RDONLY)
	if err := c.Signal(testenv.Bounded(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var st Status
	eventually(t, "the end is told", func() bool {
		var err error
		st, err = c.Status(testenv.Bounded(t))
		return err != nil || st.Exit != nil
	})
	if st.State != Exited || st.Exit == nil || st.Exit.Signal != int(syscall.SIGKILL) {
		t.Errorf("told %+v", st)
	}
	refuse(0)
	eventually(t, "the shim is gone", func() bool {
		_, err := c.Status(testenv.Bounded(t))
		return errors.Is(err, ErrGone)
	})
	rec, err := s.store.Get(s.cfg.Job)
	if err != nil || rec.Exit == nil || rec.Exit.Code != 128+int(syscall.SIGKILL) || rec.Exit.CPU < time.Hour {
		t.Errorf("written down is %+v, %v", rec.Exit, err)
	}
}

func TestTheEndOfAJobThatWasRemovedNeedsNoRecord(t *testing.T) {
	s := newScene(t, "exec sleep 100")
	c := s.start(t)
	if err := s.store.Remove(s.cfg.Job); err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(testenv.Bounded(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shim is gone", func() bool {
		_, err := c.Status(testenv.Bounded(t))
		return errors.Is(err, ErrGone)
	})
}
