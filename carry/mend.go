package carry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/inject"
	"github.com/migrate-hpc/migrate/pidmap"
)

// Menders are those halves that have something to mend.
type Menders []mender

type mender struct {
	Mender
	threads []int
}

// MendersOf asks halves of resources which threads they mend.
func MendersOf[Half any](halves []Half) (list Menders) {
	for _, h := range halves {
		m, ok := any(h).(Mender)
		if !ok {
			continue
		}
		if threads := m.Threads(); len(threads) > 0 {
			list = append(list, mender{m, threads})
		}
	}
	return list
}

// Mend thaws the frozen job with this PID 1 and has its threads mended before they run on. Without
// menders it thaws. The job is thawed in any case; an error says what could not be mended.
func (list Menders) Mend(ctx context.Context, f inject.Freezer, init int, thaw func() error) error {
	if len(list) == 0 {
		return thaw()
	}
	targets, err := list.targets(init)
	if err != nil {
		return errors.Join(fmt.Errorf("find the job's threads: %w", err), thaw())
	}
	inJob := map[int]int{}
	var all []inject.Target
	for thread, t := range targets {
		inJob[t.TID] = thread
		all = append(all, t)
	}
	return inject.Run(ctx, f, all, thaw, func(threads []*inject.Thread) error {
		stopped := map[int]*inject.Thread{}
		for _, t := range threads {
			stopped[inJob[t.TID]] = t
		}
		return list.mend(stopped)
	})
}

// targets finds the threads on the node, by their numbers in the job.
func (list Menders) targets(init int) (map[int]inject.Target, error) {
	entries, err := pidmap.InNamespace(init)
	if err != nil {
		return nil, err
	}
	found := map[int]inject.Target{}
	for _, e := range entries {
		if !slices.ContainsFunc(e.Threads, func(t pidmap.Thread) bool { return list.names(t.Job) }) || executes(e) {
			continue
		}
		for _, t := range e.Threads {
			if !list.names(t.Job) {
				continue
			}
			began, err := pidmap.Began(t.Host)
			if err != nil {
				return nil, err
			}
			found[t.Job] = inject.Target{TID: t.Host, Began: began}
		}
	}
	return found, nil
}

// executes tells whether a thread of the process is about to execute another program, which ends the
// others. None of them can be seized until it has done so, and a file server may keep it.
func executes(e pidmap.Entry) bool {
	return slices.ContainsFunc(e.Threads, func(t pidmap.Thread) bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", e.Host, t.Host))
		if err != nil {
			return false // it has ended
		}
		number, _, _ := strings.Cut(string(text), " ")
		return number == strconv.Itoa(unix.SYS_EXECVE) || number == strconv.Itoa(unix.SYS_EXECVEAT)
	})
}

func (list Menders) names(thread int) bool {
	return slices.ContainsFunc(list, func(m mender) bool { return slices.Contains(m.threads, thread) })
}

// mend lets no resource keep another one from its turn.
func (list Menders) mend(stopped map[int]*inject.Thread) error {
	var errs []error
	for _, m := range list {
		mine := map[int]*inject.Thread{}
		for _, thread := range m.threads {
			if t, ok := stopped[thread]; ok {
				mine[thread] = t
			}
		}
		errs = append(errs, m.Mend(mine))
	}
	return errors.Join(errs...)
}
