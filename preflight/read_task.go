package preflight

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/migrate-hpc/migrate/pidmap"
)

// readTask looks at one process. Of one that has ended there is little to see,
// which is no error.
func readTask(e pidmap.Entry, v mountView, initPID int) (task, error) {
	t := task{Entry: e}
	if e.Zombie() {
		return t, nil
	}
	status, err := statusOf(fmt.Sprintf("/proc/%d/status", e.Host))
	if gone(err) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	t.UIDs, t.GIDs = fourIDs(status["Uid"]), fourIDs(status["Gid"])
	t.Private = kilobytes(status["RssAnon"]) + kilobytes(status["VmSwap"])
	t.Locked = min(t.Private, kilobytes(status["VmLck"]))
	for _, th := range e.Threads {
		if err := t.readThread(th.Host); err != nil && !gone(err) {
			return t, err
		}
	}
	r := openFiles{pid: e.Host, init: initPID, view: v}
	if t.Opened, err = r.opened(); err != nil {
		return t, fmt.Errorf("open files of %s: %w", t, err)
	}
	if t.Mapped, err = r.mapped(); err != nil {
		return t, fmt.Errorf("mappings of %s: %w", t, err)
	}
	return t, nil
}

func (t *task) readThread(tid int) error {
	dir := fmt.Sprintf("/proc/%d/task/%d", t.Host, tid)
	status, err := statusOf(dir + "/status")
	if err != nil {
		return err
	}
	if tracer, err := strconv.Atoi(status["TracerPid"]); err == nil && tracer != 0 {
		t.Tracers = append(t.Tracers, tracer)
	}
	spaces, err := spacesOf(dir)
	for _, s := range spaces {
		if !slices.Contains(t.Spaces, s) {
			t.Spaces = append(t.Spaces, s)
		}
	}
	return err
}

// spacesOf reads the namespaces of a thread, and those that its children will
// be born into.
func spacesOf(dir string) ([]space, error) {
	entries, err := os.ReadDir(dir + "/ns")
	if err != nil {
		return nil, err
	}
	var spaces []space
	for _, e := range entries {
		name, err := os.Readlink(dir + "/ns/" + e.Name())
		if err != nil {
			if gone(err) { // pid_for_children without a first child, or the thread has ended
				continue
			}
			return nil, err
		}
		spaces = append(spaces, space{e.Name(), name})
	}
	return spaces, nil
}
