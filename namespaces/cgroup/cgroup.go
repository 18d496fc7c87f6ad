package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Cgroup is a job's own control group: one directory in each hierarchy that holds, limits or
// freezes tasks here. Version 1 has several hierarchies, version 2 has one. In the hierarchy that
// freezes, the tasks are one level below:
//
//	migrate-NODE-JOB          limits; schedulers and operators suspend the job here or above
//	 └ held                   the tasks; only migrate freezes and thaws them here
//
// So a freeze tells who made it, and thawing our own freeze ends no other.
type Cgroup struct {
	// Dirs maps a hierarchy's name to the directory: "freezer", "memory", … for
	// version 1 controllers, Unified for version 2.
	Dirs map[string]string
}

// Limits of a cgroup; zero is none.
type Limits struct {
	MemoryBytes int64
	CPUMilli    int64 // thousandths of one core
	Pids        int64
}

// New makes a cgroup of the given name below the one of parentPid, in every hierarchy that
// matters.
func New(parentPid int, name string) (*Cgroup, error) {
	parents, err := Of(parentPid)
	if err != nil {
		return nil, err
	}
	return NewIn(parents, name)
}

// NewIn makes a cgroup below directories that Of has named.
func NewIn(parents map[string]string, name string) (*Cgroup, error) {
	c := &Cgroup{Dirs: map[string]string{}}
	for h, dir := range parents {
		if h != Unified && !slices.Contains(controllers, h) {
			continue
		}
		if h == Unified && parents["freezer"] != "" {
			continue // hybrid: the version 1 controllers do the work
		}
		if h == Unified {
			dir = parentForJobs(dir)
		}
		d := filepath.Join(dir, name)
		if err := makeDir(d); err != nil {
			return nil, errors.Join(err, c.Remove())
		}
		c.Dirs[h] = d
		if h == Unified || h == "freezer" {
			if err := makeDir(filepath.Join(d, tasksDir)); err != nil {
				return nil, errors.Join(err, c.Remove())
			}
			c.Dirs[h] = filepath.Join(d, tasksDir)
		}
	}
	if len(c.Dirs) == 0 {
		return nil, errors.New("this node has neither a version 1 freezer nor a version 2 cgroup tree mounted")
	}
	return c, nil
}

// makeDir makes a directory. It replaces an empty one that is left over; one that holds tasks is
// an error.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, os.ErrExist) {
		_ = unix.Rmdir(filepath.Join(dir, tasksDir)) // if it holds tasks the next one fails
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

// Enter moves a process into the cgroup, in each of its hierarchies.
func (c *Cgroup) Enter(pid int) error {
	return enterAll(c.Dirs, pid)
}

// Join moves pid to the cgroups of another process, found by Of, in every hierarchy of the node.
// What accounts for that process, limits it or kills it then covers pid as well.
func Join(pid int, dirs map[string]string) error { return enterAll(dirs, pid) }

// enterAll enters the freezer last. Where it shares a hierarchy with other controllers, it is
// below them.
func enterAll(dirs map[string]string, pid int) error {
	for _, h := range slices.SortedFunc(maps.Keys(dirs), freezerLast) {
		p := filepath.Join(dirs[h], "cgroup.procs")
		//house:allow os.WriteFile: a file of the kernel
		if err := os.WriteFile(p, []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

// Limit sets the limits. On version 2 the parent must enable the controllers. It cannot while
// tasks live in it.
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
	err := enableControllers(filepath.Dir(dir), "memory", "cpu", "pids")
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

// SetCPU sets the processor time alone, in thousandths of one core; 0 lifts the limit.
func (c *Cgroup) SetCPU(milli int64) error {
	if !c.isUnified() {
		if milli == 0 {
			return c.setV1("cpu", "cpu.cfs_quota_us", -1)
		}
		return c.setV1("cpu", "cpu.cfs_quota_us", max(milli*cpuPeriod/1000, minQuota))
	}
	if milli > 0 {
		return c.limitUnified(Limits{CPUMilli: max(milli, 1000*minQuota/cpuPeriod)})
	}
	file := filepath.Join(c.Dir(), "cpu.max")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return nil // the controller was never handed down: nothing limits the job
	}
	return writeValue(file, "max")
}

// minQuota is the smallest quota that the kernel takes, in µs.
const minQuota = 1000

func writeValue(path, value string) error {
	//house:allow os.WriteFile: a file of the kernel
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set cgroup limit: %w", err)
	}
	return nil
}

func (c *Cgroup) isUnified() bool { return c.Dirs[Unified] != "" }

// Dir is the job's cgroup for the rest of the node: it has the limits and lies above all tasks.
func (c *Cgroup) Dir() string {
	if dir := c.FreezerDir(); filepath.Base(dir) != tasksDir {
		return dir
	}
	return filepath.Dir(c.FreezerDir())
}

// FreezerDir is the directory that only migrate freezes. It holds the tasks, and CRIU gets its
// path.
func (c *Cgroup) FreezerDir() string {
	if c.isUnified() {
		return c.Dirs[Unified]
	}
	return c.Dirs["freezer"]
}

// Pids lists the processes in the cgroup. A cgroup that does not exist holds none.
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

// Remove removes the cgroup, which must be empty. Directories that do not exist are no error.
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
		if filepath.Base(dir) == tasksDir {
			remove(filepath.Dir(dir))
		}
	}
	return errors.Join(errs...)
}

// CPUTime is the processor time that all tasks of the cgroup have used, in nanoseconds. The kernel
// counts from the making of the cgroup.
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

// Threads lists the threads in the cgroup, by hierarchy. In a version 1 hierarchy a thread can be
// elsewhere than its process.
func (c *Cgroup) Threads() (map[string][]int, error) {
	members := map[string][]int{}
	for h, dir := range c.Dirs {
		file := "tasks"
		if h == Unified {
			file = "cgroup.threads"
		}
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(data)) {
			tid, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			members[h] = append(members[h], tid)
		}
	}
	return members, nil
}

// StepUp moves a process of the cgroup one level up, where a freeze of ours does not reach it. The
// limits go on to hold for it.
func (c *Cgroup) StepUp(pid int) error {
	//house:allow os.WriteFile: a file of the kernel
	err := os.WriteFile(filepath.Join(filepath.Dir(c.FreezerDir()), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	if err != nil {
		return fmt.Errorf("leave the freezer: %w", err)
	}
	return nil
}
