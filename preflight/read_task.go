package preflight

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// readTask looks at one process. Of one that has ended there is little to see,
// which is no error.
func readTask(e pidmap.Entry, v mountView, initPID int) (task, error) {
	t := task{Entry: e}
	if e.Zombie() {
		return t, nil
	}
	status, err := procfs.ReadStatus(e.Host)
	if procfs.IsGone(err) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	uids, err := status.Numbers("Uid") // real, effective, saved and of file systems
	gids, err2 := status.Numbers("Gid")
	if err := errors.Join(err, err2); err != nil {
		return t, fmt.Errorf("ids of %s: %w", t, err)
	}
	copy(t.UIDs[:], uids)
	copy(t.GIDs[:], gids)
	t.Private = status.Size("RssAnon") + status.Size("VmSwap")
	t.Locked = min(t.Private, status.Size("VmLck"))
	for _, th := range e.Threads {
		if err := t.readThread(th.Host); err != nil && !procfs.IsGone(err) {
			return t, err
		}
	}
	if err := t.readOwners(initPID); err != nil && !procfs.IsGone(err) {
		return t, err
	}
	r := openFiles{pid: e.Host, init: initPID, view: v}
	if t.Opened, err = r.opened(); err != nil {
		return t, fmt.Errorf("open files of %s: %w", t, err)
	}
	if t.Space, err = r.addressSpace(); err != nil && !procfs.IsGone(err) {
		return t, fmt.Errorf("address space of %s: %w", t, err)
	}
	if t.Mapped, err = r.mapped(); err != nil {
		return t, fmt.Errorf("mappings of %s: %w", t, err)
	}
	return t, nil
}

func (t *task) readThread(tid int) error {
	dir := fmt.Sprintf("/proc/%d/task/%d", t.Host, tid)
	status, err := procfs.ReadFields(dir + "/status")
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

// readOwners asks whose the namespaces are that the process does not share with PID 1.
func (t *task) readOwners(initPID int) error {
	for _, kind := range namespaces.Nestable {
		own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", initPID, kind))
		if err != nil {
			return err
		}
		if has := t.space(kind); has == "" || has == own {
			continue
		}
		owned, err := namespaces.OwnedLike(t.Host, kind, initPID)
		if err != nil {
			return err
		}
		if !owned {
			t.Alien = append(t.Alien, kind)
		}
		if kind == "net" {
			if t.Connected, err = hasConnections(t.Host); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasConnections tells whether a process sees TCP connections in its network namespace. Only
// those of PID 1 are kept from each other while they are saved.
func hasConnections(pid int) (bool, error) {
	const timeWait, listen = "06", "0A" // see proc_pid_net(5)
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if errors.Is(err, os.ErrNotExist) && name == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return false, err
		}
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			if f := strings.Fields(line); i > 0 && len(f) > 3 && f[3] != timeWait && f[3] != listen {
				return true, nil
			}
		}
	}
	return false, nil
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
			if procfs.IsGone(err) { // pid_for_children without a first child, or the thread has ended
				continue
			}
			return nil, err
		}
		spaces = append(spaces, space{e.Name(), name})
	}
	return spaces, nil
}
