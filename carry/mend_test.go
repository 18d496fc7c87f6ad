package carry

import (
	"errors"
	"maps"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/inject"
	"github.com/migrate-hpc/migrate/testenv"
)

// asked is half of a resource that has threads mended.
type asked struct {
	NoRestorer
	threads []int
	fails   error
	got     []int
	thawed  *bool
	early   bool // it was called before the job was thawed
}

func (a *asked) Threads() []int { return a.threads }

func (a *asked) Mend(threads map[int]*inject.Thread) error {
	a.got, a.early = slices.Sorted(maps.Keys(threads)), !*a.thawed
	for _, t := range threads {
		if pid, err := t.Syscall(unix.SYS_GETPID); err != nil || pid != 1 {
			return errors.Join(errors.New("it is not PID 1"), err)
		}
	}
	return a.fails
}

// firstOf is the PID 1 of a new pid namespace.
func firstOf(t *testing.T) int {
	t.Helper()
	testenv.NeedRoot(t)
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return cmd.Process.Pid
}

func TestEveryMenderGetsItsThreadsThatLive(t *testing.T) {
	init, thawed := firstOf(t), false
	broken := errors.New("broken")
	first := &asked{threads: []int{1}, fails: broken, thawed: &thawed}
	none, second := &asked{thawed: &thawed}, &asked{threads: []int{1, 77}, thawed: &thawed}
	list := MendersOf([]Restorer{first, none, NoRestorer{}, second})
	err := list.Mend(testenv.Bounded(t), nil, init, func() error { thawed = true; return nil })
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	for name, m := range map[string]*asked{"the one that fails": first, "the one after it": second} {
		if !slices.Equal(m.got, []int{1}) || m.early {
			t.Errorf("%s got threads %v, early: %v", name, m.got, m.early)
		}
	}
	if none.got != nil {
		t.Error("one that names no thread is called")
	}
}

func TestAJobIsThawedWhateverCannotBeMended(t *testing.T) {
	for name, init := range map[string]int{"nothing to mend": firstOf(t), "no job": 1 << 30} {
		thawed := false
		list := MendersOf([]Restorer{&asked{threads: []int{1}, thawed: &thawed}})
		if name == "nothing to mend" {
			list = nil
		}
		err := list.Mend(testenv.Bounded(t), nil, init, func() error { thawed = true; return nil })
		if !thawed || (err == nil) != (list == nil) {
			t.Errorf("%s: thawed %v, %v", name, thawed, err)
		}
	}
}
