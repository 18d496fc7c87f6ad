package namespaces

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Cgroup is a job's own control group: one directory in each hierarchy that
// holds, limits or freezes tasks here. On version 1 those are several, on a pure
// version 2 node one. In the hierarchy that freezes, the tasks are one level below:
//
//	migrate-NODE-JOB          limits; schedulers and operators suspend the job here or above
//	 └ tasks                  the tasks; nobody but we freeze and thaw them here
//
// So a freeze tells who made it, and ours ends no other.
type Cgroup struct {
	// Dirs maps a hierarchy's name to the directory: "freezer", "memory", … for
	// version 1 controllers, Unified for version 2.
	Dirs map[string]string
}

// leaf holds the tasks; "tasks" is a file of version 1. Jobs that an agent before this one has started have none.
const leaf = "held"

// Unified names the version 2 hierarchy in Cgroup.Dirs.
const Unified = "unified"

// controllers of version 1 that a job gets a directory in.
var controllers = []string{"freezer", "memory", "cpu", "cpuacct", "pids"}

// Limits of a cgroup; zero is none.
type Limits struct {
	MemoryBytes int64
	CPUMilli    int64 // thousandths of one core
	Pids        int64
}

// NewCgroup makes a cgroup of the given name beneath the one that parentPid is
// in, in every hierarchy that matters.
func NewCgroup(parentPid int, name string) (*Cgroup, error) {
	parents, err := CgroupsOf(parentPid)
	if err != nil {
		return nil, err
	}
	return NewCgroupIn(parents, name)
}

// NewCgroupIn does so beneath directories that CgroupsOf has named.
func NewCgroupIn(parents map[string]string, name string) (*Cgroup, error) {
	c := &Cgroup{Dirs: map[string]string{}}
	for h, dir := range parents {
		if h != Unified && !slices.Contains(controllers, h) {
			continue
		}
		if h == Unified && parents["freezer"] != "" {
			continue // hybrid: the version 1 controllers do the work
		}
		if h == Unified {
			dir = jobParent(dir)
		}
		d := filepath.Join(dir, name)
		if err := makeCgroup(d); err != nil {
			return nil, errors.Join(err, c.Remove())
		}
		c.Dirs[h] = d
		if h == Unified || h == "freezer" {
			if err := makeCgroup(filepath.Join(d, leaf)); err != nil {
				return nil, errors.Join(err, c.Remove())
			}
			c.Dirs[h] = filepath.Join(d, leaf)
		}
	}
	if len(c.Dirs) == 0 {
		return nil, errors.New("this node has neither a version 1 freezer nor a version 2 cgroup tree mounted")
	}
	return c, nil
}

// FindCgroup finds what NewCgroup has made somewhere under this name. It has no directories if
// there is none.
func FindCgroup(name string) (*Cgroup, error) {
	table, err := MountTable(os.Getpid())
	if err != nil {
		return nil, err
	}
	c := &Cgroup{Dirs: map[string]string{}}
	mounts := cgroupMounts(table)
	for h, m := range mounts {
		if h != Unified && !slices.Contains(controllers, h) || h == Unified && mounts["freezer"].dir != "" {
			continue
		}
		err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && path != m.dir: // cgroups come and go
				return nil
			case err != nil:
				return err
			case !d.IsDir():
				return nil
			case d.Name() == name:
				c.Dirs[h] = path
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if at := filepath.Join(c.Dirs[h], leaf); c.Dirs[h] != "" && (h == Unified || h == "freezer") {
			if _, err := os.Stat(at); err == nil {
				c.Dirs[h] = at
			}
		}
	}
	return c, nil
}

// makeCgroup makes one directory anew. An empty one that somebody left is taken
// away first; one that holds tasks is not ours.
func makeCgroup(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, os.ErrExist) {
		_ = unix.Rmdir(filepath.Join(dir, leaf)) // if it holds tasks the next one fails
		if err := unix.Rmdir(dir); err != nil {
			return fmt.Errorf("cgroup %s is in use: %w", dir, err)
		}
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	return nil
}

// CgroupsOf returns the directory of pid's cgroup in each mounted hierarchy.
func CgroupsOf(pid int) (map[string]string, error) {
	table, err := MountTable(os.Getpid())
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	return locate(cgroupMounts(table), string(data)), nil
}

// RootsAlone tells whether nobody but root can move tasks in any of these cgroups and those above.
// Who can, by a cgroup that was delegated to them (a user's session has one), takes tasks out of a
// freezer: the kernel then lets them run.
func RootsAlone(dirs map[string]string) (bool, error) {
	for _, dir := range dirs {
		for ; isCgroup(dir); dir = filepath.Dir(dir) {
			for _, path := range []string{dir, filepath.Join(dir, "cgroup.procs")} {
				var st unix.Stat_t
				if err := unix.Stat(path, &st); err != nil {
					return false, &os.PathError{Op: "stat", Path: path, Err: err}
				}
				if st.Uid != 0 || st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0 {
					return false, nil
				}
			}
		}
	}
	return true, nil
}

func isCgroup(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.procs"))
	return err == nil
}

// locate translates the lines of /proc/PID/cgroup to directories. Cgroups that
// lie outside of what is mounted here have none.
func locate(mounts map[string]cgroupMount, lines string) map[string]string {
	dirs := map[string]string{}
	for line := range strings.Lines(lines) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		names := strings.Split(f[1], ",")
		if f[1] == "" {
			names = []string{Unified}
		}
		for _, h := range names {
			m, ok := mounts[h]
			rest, within := strings.CutPrefix(strings.TrimSuffix(f[2], "/")+"/", m.root+"/")
			if ok && within && !strings.HasPrefix(rest, "../") {
				dirs[h] = filepath.Join(m.dir, rest)
			}
		}
	}
	return dirs
}

type cgroupMount struct{ dir, root string }

// cgroupMounts finds where each hierarchy is mounted.
func cgroupMounts(table []MountPoint) map[string]cgroupMount {
	found := map[string]cgroupMount{}
	for _, m := range table {
		at := cgroupMount{dir: m.Target, root: strings.TrimSuffix(m.Root, "/")}
		switch m.Type {
		case "cgroup2":
			found[Unified] = at
		case "cgroup":
			for _, o := range strings.Split(m.SuperOptions, ",") {
				found[o] = at
			}
		}
	}
	return found
}

// Enter moves a process into the cgroup, in each of its hierarchies.
func (c *Cgroup) Enter(pid int) error {
	return enterAll(c.Dirs, pid)
}

// Join moves pid to where another process was found by CgroupsOf, in every hierarchy of
// the node, so that what accounts for that, limits it or kills it, reaches pid as well.
func Join(pid int, dirs map[string]string) error { return enterAll(dirs, pid) }

// enterAll enters the freezer last: where it shares a hierarchy with others it is beneath
// them.
func enterAll(dirs map[string]string, pid int) error {
	for _, h := range slices.SortedFunc(maps.Keys(dirs), freezerLast) {
		p := filepath.Join(dirs[h], "cgroup.procs")
		if err := os.WriteFile(p, []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

func freezerLast(a, b string) int {
	last := func(h string) int {
		if h == "freezer" {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a, b))
}

// Limit sets the limits. On version 2 the parent must be able to hand the
// controllers down, which it cannot while tasks live in it.
func (c *Cgroup) Limit(l Limits) error {
	if l == (Limits{}) {
		return nil
	}
	if c.isUnified() {
		return c.limitUnified(l)
	}
	return errors.Join(
		c.setV1("memory", "memory.limit_in_bytes", l.MemoryBytes),
		c.setV1("cpu", "cpu.cfs_quota_us", l.CPUMilli*cpuPeriod/1000),
		c.setV1("pids", "pids.max", l.Pids))
}

const cpuPeriod = 100_000 // µs, the kernel's default

func (c *Cgroup) setV1(controller, file string, value int64) error {
	if value == 0 {
		return nil
	}
	dir, ok := c.Dirs[controller]
	if !ok {
		return fmt.Errorf("this node has no %s controller to set a limit with", controller)
	}
	return writeValue(filepath.Join(dir, file), strconv.FormatInt(value, 10))
}

func (c *Cgroup) limitUnified(l Limits) error {
	dir := c.Dir()
	err := handDown(filepath.Dir(dir), "memory", "cpu", "pids")
	if errors.Is(err, unix.EBUSY) {
		return errors.New("the caller's cgroup holds processes itself, so cgroup v2 cannot limit a child of it; start the job with --detach or without limits")
	}
	if err != nil {
		return err
	}
	var errs []error
	if l.MemoryBytes > 0 {
		errs = append(errs, writeValue(filepath.Join(dir, "memory.max"), strconv.FormatInt(l.MemoryBytes, 10)))
	}
	if l.CPUMilli > 0 {
		errs = append(errs, writeValue(filepath.Join(dir, "cpu.max"), fmt.Sprintf("%d %d", l.CPUMilli*cpuPeriod/1000, cpuPeriod)))
	}
	if l.Pids > 0 {
		errs = append(errs, writeValue(filepath.Join(dir, "pids.max"), strconv.FormatInt(l.Pids, 10)))
	}
	return errors.Join(errs...)
}

// SetCPU sets the processor time alone, in thousandths of one core; 0 lifts the
// limit.
func (c *Cgroup) SetCPU(milli int64) error {
	if !c.isUnified() {
		if milli == 0 {
			return c.setV1("cpu", "cpu.cfs_quota_us", -1)
		}
		return c.setV1("cpu", "cpu.cfs_quota_us", max(milli*cpuPeriod/1000, leastQuota))
	}
	if milli > 0 {
		return c.limitUnified(Limits{CPUMilli: max(milli, 1000*leastQuota/cpuPeriod)})
	}
	file := filepath.Join(c.Dir(), "cpu.max")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return nil // the controller was never handed down: nothing limits the job
	}
	return writeValue(file, "max")
}

// leastQuota is the smallest quota that the kernel takes, in µs.
const leastQuota = 1000

func writeValue(path, value string) error {
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set cgroup limit: %w", err)
	}
	return nil
}

func (c *Cgroup) isUnified() bool { return c.Dirs[Unified] != "" }

// Dir is the cgroup that is the job's for everybody else: with its limits, and above all
// of its tasks.
func (c *Cgroup) Dir() string {
	if dir := c.FreezerDir(); filepath.Base(dir) != leaf {
		return dir
	}
	return filepath.Dir(c.FreezerDir())
}

// FreezerDir is the directory whose freezer is ours alone, with the job's tasks; CRIU is
// given it.
func (c *Cgroup) FreezerDir() string {
	if c.isUnified() {
		return c.Dirs[Unified]
	}
	return c.Dirs["freezer"]
}

// Pids lists the processes in the cgroup as they are now. A cgroup that is gone
// holds none.
func (c *Cgroup) Pids() ([]int, error) {
	data, err := os.ReadFile(filepath.Join(c.FreezerDir(), "cgroup.procs"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range strings.Fields(string(data)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, n)
	}
	return pids, nil
}

// Remove takes the cgroup away; it must be empty. What is gone already is fine.
func (c *Cgroup) Remove() error {
	var errs []error
	remove := func(dir string) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
		}
	}
	for _, h := range slices.Backward(slices.SortedFunc(maps.Keys(c.Dirs), freezerLast)) {
		dir := c.Dirs[h]
		remove(dir)
		if filepath.Base(dir) == leaf {
			remove(filepath.Dir(dir))
		}
	}
	return errors.Join(errs...)
}

// CPUTime is the processor time that all tasks of the cgroup have used, in
// nanoseconds. The kernel counts it from the cgroup's making.
func (c *Cgroup) CPUTime() (int64, error) {
	if dir := c.Dirs["cpuacct"]; dir != "" {
		data, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage"))
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	}
	data, err := os.ReadFile(filepath.Join(c.FreezerDir(), "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return us * 1000, err
		}
	}
	return 0, errors.New("cpu.stat without usage_usec")
}
