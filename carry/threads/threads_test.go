package threads

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/testenv"
)

// aJob is PID 1 of a pid namespace of its own, as this process sees it.
func aJob(t *testing.T) int {
	t.Helper()
	testenv.NeedRoot(t)
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	awaitSleep(t, cmd.Process.Pid)
	return cmd.Process.Pid
}

func awaitSleep(t *testing.T, pid int) {
	t.Helper()
	testenv.Eventually(t, func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		return err == nil && len(text) > 4 && string(text[:4]) == "230 " // clock_nanosleep
	})
}

// unusual changes all that is carried of a process.
func unusual(t *testing.T, pid int) {
	t.Helper()
	a := attrs{CPUs: oneCPU(t), IOPriority: 2<<13 | 6, TimerSlack: 12345}
	if err := a.apply(pid, affinity.Placement{Bound: a.CPUs, Given: a.CPUs}); err != nil {
		t.Fatal(err)
	}
	if err := writeNumber(pid, "coredump_filter", 5); err != nil {
		t.Fatal(err)
	}
}

// oneCPU is a part of what this process has.
func oneCPU(t *testing.T) affinity.Set {
	t.Helper()
	all, err := affinity.Of(0)
	if err != nil {
		t.Fatal(err)
	}
	first, _, more := strings.Cut(strings.ReplaceAll(all.String(), ",", "-"), "-")
	if !more {
		t.Skip("there is one processor only: nothing can be bound")
	}
	return cpus(t, first)
}

func TestWhatIsUsualIsNotCarried(t *testing.T) {
	images := t.TempDir()
	s := NewSource(carry.Job{Init: aJob(t), Images: images})
	if _, err := s.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.FixImages(); err != nil {
		t.Fatal(err)
	}
	if r, err := read(images); err != nil || r.Format != 0 {
		t.Errorf("the images have %+v, %v", r, err)
	}
	r := NewRestorer(carry.Env{Images: images})
	if err := r.Prepare(); err != nil {
		t.Error(err)
	}
	if err := r.Parked(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsUnusualIsSetOnTheCopy(t *testing.T) {
	images, job, copied := t.TempDir(), aJob(t), aJob(t)
	unusual(t, job)
	s := NewSource(carry.Job{Init: job, Images: images})
	if _, err := s.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.FixImages(); err != nil {
		t.Fatal(err)
	}
	r := NewRestorer(carry.Env{Images: images})
	for _, stage := range []func() error{r.Prepare, func() error { return r.NamespacesMade(copied) }, r.Parked, s.Close} {
		if err := stage(); err != nil {
			t.Fatal(err)
		}
	}
	want, err := look(job)
	if err != nil || len(want.Threads) != 1 || len(want.Processes) != 1 || want.bound() != oneCPU(t) {
		t.Fatalf("seen: %+v, %v", want, err)
	}
	if got, err := look(copied); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the copy has %+v, want %+v (%v)", got, want, err)
	}
	if bound, err := affinity.BoundIn(copied); err != nil || bound != oneCPU(t) {
		t.Errorf("bound to %v, %v", bound, err)
	}
}

func TestWhatCannotBeSetEndsTheRestore(t *testing.T) {
	filter := uint32(3)
	for name, test := range map[string]struct {
		saved record
		word  string
	}{
		"a thread that is not there":  {record{Attrs: []attrs{{TimerSlack: 1}}, Threads: [][3]int{{1, 9, 0}}}, "no thread 9"},
		"a process that is not there": {record{Processes: []process{{PID: 2, CoredumpFilter: &filter}}}, "no process 2"},
		"processors to keep": {record{Affinity: affinity.Keep, Attrs: []attrs{{CPUs: cpus(t, "8191")}}, Threads: [][3]int{{1, 1, 0}}},
			"bound to processors 8191"},
		"an I/O priority that is none": {record{Attrs: []attrs{{IOPriority: 7 << 13}}, Threads: [][3]int{{1, 1, 0}}}, "I/O priority"},
	} {
		test.saved.Format = format
		images, copied := t.TempDir(), aJob(t)
		if err := write(images, test.saved); err != nil {
			t.Fatal(err)
		}
		r := NewRestorer(carry.Env{Images: images})
		if err := r.Prepare(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := r.NamespacesMade(copied); err != nil {
			t.Fatal(err)
		}
		if err := r.Parked(); err == nil || !strings.Contains(err.Error(), test.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestThreadsAreBoundToOthersOrToNone(t *testing.T) {
	all, err := affinity.Of(0)
	if err != nil {
		t.Fatal(err)
	}
	first := oneCPU(t)
	for mode, want := range map[affinity.Mode]affinity.Set{affinity.Map: first, affinity.Drop: all} {
		images, copied := t.TempDir(), aJob(t)
		saved := record{Format: format, Affinity: mode, Attrs: []attrs{{CPUs: cpus(t, "8191")}}, Threads: [][3]int{{1, 1, 0}}}
		if err := write(images, saved); err != nil {
			t.Fatal(err)
		}
		r := NewRestorer(carry.Env{Images: images})
		for _, stage := range []func() error{r.Prepare, func() error { return r.NamespacesMade(copied) }, r.Parked} {
			if err := stage(); err != nil {
				t.Fatal(err)
			}
		}
		if is, err := affinity.Of(copied); err != nil || is != want {
			t.Errorf("%s: on processors %v, want %v (%v)", mode, is, want, err)
		}
	}
}
