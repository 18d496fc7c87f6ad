package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

func parseTable(t *testing.T, lines string) []procfs.MountPoint {
	t.Helper()
	table, err := procfs.ParseMountTable(strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

const (
	hybrid = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
		32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
		33 31 0:30 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
		34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
		35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate`
	pure      = `31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot`
	container = `31 23 0:28 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw`
)

func TestACgroupIsFoundInEachMountedHierarchy(t *testing.T) {
	for name, c := range map[string]struct {
		mounts, lines string
		want          map[string]string
	}{
		"hybrid": {hybrid, "5:cpu,cpuacct:/slurm/job1\n4:freezer:/\n3:name=systemd:/user.slice\n2:pids:/not-mounted\n0::/user.slice\n", map[string]string{
			"cpu": "/sys/fs/cgroup/cpu,cpuacct/slurm/job1", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/slurm/job1",
			"freezer": "/sys/fs/cgroup/freezer", "name=systemd": "/sys/fs/cgroup/systemd/user.slice", Unified: "/sys/fs/cgroup/unified/user.slice"}},
		"pure version 2":         {pure, "0::/user.slice/a:b\n", map[string]string{Unified: "/sys/fs/cgroup/user.slice/a:b"}},
		"at the root":            {pure, "0::/\n", map[string]string{Unified: "/sys/fs/cgroup"}},
		"at a container's root":  {container, "0::/docker/abc\n", map[string]string{Unified: "/sys/fs/cgroup"}},
		"in a container":         {container, "0::/docker/abc/x\n", map[string]string{Unified: "/sys/fs/cgroup/x"}},
		"above what is mounted":  {container, "0::/\n", map[string]string{}},
		"beside what is mounted": {container, "0::/docker/abcd\n", map[string]string{}},
		"outside the namespace":  {pure, "0::/../other\n", map[string]string{}},
		"nothing mounted":        {"", "0::/x\n", map[string]string{}},
		"strange lines":          {pure, "\n:\n0:x\n", map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := resolvePaths(cgroupMounts(parseTable(t, c.mounts)), c.lines)
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestTheFreezerIsTheUnifiedHierarchyWhereThatIsTheJobs(t *testing.T) {
	one := Cgroup{Dirs: map[string]string{"freezer": "/f/x", "cpuacct": "/c/x"}}
	two := Cgroup{Dirs: map[string]string{Unified: "/u/x"}}
	if one.isUnified() || one.FreezerDir() != "/f/x" || !two.isUnified() || two.FreezerDir() != "/u/x" {
		t.Error("wrong freezer", one.FreezerDir(), two.FreezerDir())
	}
}

func TestANewCgroupIsInEveryHierarchyThatMatters(t *testing.T) {
	c := newCgroup(t)
	parents, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for h := range parents {
		if slices.Contains(controllers, h) || (h == Unified && parents["freezer"] == "") {
			want = append(want, h)
		}
	}
	if got := slices.Sorted(maps.Keys(c.Dirs)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("got %v, want %v", got, want)
	}
	for h, dir := range c.Dirs {
		if filepath.Base(dir) == tasksDir {
			dir = filepath.Dir(dir)
		}
		if filepath.Dir(dir) != parents[h] {
			t.Errorf("%s is not beneath %s", dir, parents[h])
		}
	}
}

func TestACgroupThatHoldsTasksIsNotTakenOver(t *testing.T) {
	c := newCgroup(t)
	runIn(t, c, "exec sleep 60")
	name := filepath.Base(c.Dir())
	_, err := New(os.Getpid(), name)
	if err == nil || !errors.Is(err, unix.EBUSY) {
		t.Fatalf("got %v", err)
	}
	if pids, err := c.Pids(); err != nil || len(pids) != 1 {
		t.Errorf("the cgroup's task is gone: %v %v", pids, err)
	}
}

func TestAnEmptyCgroupThatSomebodyLeftIsReplaced(t *testing.T) {
	c := newCgroup(t)
	again, err := New(os.Getpid(), filepath.Base(c.Dir()))
	if err != nil || !maps.Equal(again.Dirs, c.Dirs) {
		t.Fatalf("got %v %v", again, err)
	}
}

func TestRemovingTwiceIsRemovingOnceAndAGoneCgroupHoldsNobody(t *testing.T) {
	c := newCgroup(t)
	for range 2 {
		if err := c.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if pids, err := c.Pids(); err != nil || pids != nil {
		t.Errorf("got %v %v", pids, err)
	}
	if err := errors.Join(c.Thaw(testenv.Bounded(t)), c.Kill(testenv.Bounded(t))); err != nil {
		t.Error(err)
	}
	if err := c.Freeze(testenv.Bounded(t)); err == nil {
		t.Error("a cgroup that is gone was frozen")
	}
	if _, err := c.CPUTime(); err == nil {
		t.Error("a cgroup that is gone has used time")
	}
}

func TestJoinPutsAProcessWhereAnotherIs(t *testing.T) {
	c := newCgroup(t)
	other := runIn(t, c, "exec sleep 60")
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait() // reaps it
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	there, err := Of(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := Join(cmd.Process.Pid, there); err != nil {
		t.Fatal(err)
	}
	if got, want := readFile(t, "/proc/"+itoa(cmd.Process.Pid)+"/cgroup"), readFile(t, "/proc/"+itoa(other)+"/cgroup"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := Join(1<<30, there); err == nil {
		t.Error("a process that is not there has joined")
	}
	if _, err := Of(1 << 30); err == nil {
		t.Error("a process that is not there is somewhere")
	}
}

// fakeCgroup has directories that take every write, to see what is written.
func fakeCgroup(t *testing.T, hierarchies ...string) *Cgroup {
	t.Helper()
	c := &Cgroup{Dirs: map[string]string{}}
	for _, h := range hierarchies {
		c.Dirs[h] = filepath.Join(t.TempDir(), "job")
		if err := os.Mkdir(c.Dirs[h], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestLimitsAreWrittenAsEachVersionWantsThem(t *testing.T) {
	testenv.NeedRoot(t) // the files are written without any permission
	all := Limits{MemoryBytes: 1 << 30, CPUMilli: 1500, Pids: 7}
	one := fakeCgroup(t, "memory", "cpu", "pids", "freezer")
	two := fakeCgroup(t, Unified)
	write(t, filepath.Join(filepath.Dir(two.Dirs[Unified]), "cgroup.controllers"), "memory cpu pids\n")
	for _, c := range []*Cgroup{one, two} {
		if err := errors.Join(c.Limit(Limits{}), c.Limit(all)); err != nil {
			t.Fatal(err)
		}
	}
	unified := two.Dirs[Unified]
	for path, want := range map[string]string{
		filepath.Join(one.Dirs["memory"], "memory.limit_in_bytes"):     "1073741824",
		filepath.Join(one.Dirs["cpu"], "cpu.cfs_quota_us"):             "150000",
		filepath.Join(one.Dirs["pids"], "pids.max"):                    "7",
		filepath.Join(unified, "memory.max"):                           "1073741824",
		filepath.Join(unified, "cpu.max"):                              "150000 100000",
		filepath.Join(unified, "pids.max"):                             "7",
		filepath.Join(filepath.Dir(unified), "cgroup.subtree_control"): "+memory +cpu +pids",
	} {
		if got := readFile(t, path); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
}

func TestProcessorTimeIsLimitedAndLifted(t *testing.T) {
	testenv.NeedRoot(t)
	one, two := fakeCgroup(t, "cpu", "freezer"), fakeCgroup(t, Unified)
	write(t, filepath.Join(filepath.Dir(two.Dirs[Unified]), "cgroup.controllers"), "memory cpu pids\n")
	v1, v2 := filepath.Join(one.Dirs["cpu"], "cpu.cfs_quota_us"), filepath.Join(two.Dirs[Unified], "cpu.max")
	for _, c := range []struct {
		milli  int64
		v1, v2 string
	}{{250, "25000", "25000 100000"}, {1, "1000", "1000 100000"}, {0, "-1", "max"}} {
		if err := errors.Join(one.SetCPU(c.milli), two.SetCPU(c.milli)); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, v1); got != c.v1 {
			t.Errorf("%d: version 1 holds %q", c.milli, got)
		}
		if got := readFile(t, v2); got != c.v2 {
			t.Errorf("%d: version 2 holds %q", c.milli, got)
		}
	}
	if err := fakeCgroup(t, Unified).SetCPU(0); err != nil {
		t.Errorf("lifting a limit that cannot be there: %v", err)
	}
}

func TestALimitWithoutItsControllerIsAnError(t *testing.T) {
	testenv.NeedRoot(t)
	c := fakeCgroup(t, "freezer", "pids")
	err := c.Limit(Limits{MemoryBytes: 1, Pids: 1})
	if err == nil || !strings.Contains(err.Error(), "memory controller") {
		t.Errorf("got %v", err)
	}
}

func TestCPUTimeOfBothVersionsIsInNanoseconds(t *testing.T) {
	one, two, bad := fakeCgroup(t, "freezer", "cpuacct"), fakeCgroup(t, Unified), fakeCgroup(t, Unified)
	for path, text := range map[string]string{
		filepath.Join(one.Dirs["cpuacct"], "cpuacct.usage"): "1234567\n",
		filepath.Join(two.Dirs[Unified], "cpu.stat"):        "usage_usec 1234\nuser_usec 1000\n",
		filepath.Join(bad.Dirs[Unified], "cpu.stat"):        "nr_periods 0\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := one.CPUTime(); n != 1234567 || err != nil {
		t.Errorf("version 1: %d %v", n, err)
	}
	if n, err := two.CPUTime(); n != 1234000 || err != nil {
		t.Errorf("version 2: %d %v", n, err)
	}
	if n, err := bad.CPUTime(); err == nil {
		t.Errorf("a file without the number gives %d", n)
	}
}

// What a job's record said is lost with the record.
func TestACgroupIsFoundByItsName(t *testing.T) {
	testenv.NeedRoot(t)
	name := fmt.Sprintf("migrate-find-%d", os.Getpid())
	made, err := New(os.Getpid(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := made.Remove(); err != nil {
			t.Error(err)
		}
	})
	found, err := Find(name)
	if err != nil || !maps.Equal(found.Dirs, made.Dirs) {
		t.Errorf("found %+v, %v; made %+v", found, err, made)
	}
	if none, err := Find(name + "-none"); err != nil || len(none.Dirs) > 0 {
		t.Errorf("none: %+v, %v", none, err)
	}
	if err := os.Chown(made.Dir(), 12345, 0); err != nil {
		t.Fatal(err)
	}
	if users, err := Find(name); err != nil || users.FreezerDir() != "" {
		t.Errorf("a user's: %+v, %v", users, err)
	}
}

func TestACgroupThatAUserHasAHandInIsNotRootsAlone(t *testing.T) {
	c := newCgroup(t)
	want := func(alone bool, what string) {
		t.Helper()
		if got, err := OnlyRootWrites(c.Dirs); err != nil || got != alone {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	want(true, "as it is made")
	procs, above := filepath.Join(c.FreezerDir(), "cgroup.procs"), c.Dir()
	for what, change := range map[string]struct{ do, undo func() error }{
		"tasks may be moved in":        {func() error { return os.Chown(procs, 12345, 0) }, func() error { return os.Chown(procs, 0, 0) }},
		"the one above is a user's":    {func() error { return os.Chown(above, 12345, 0) }, func() error { return os.Chown(above, 0, 0) }},
		"a group may make others here": {func() error { return os.Chmod(above, 0o775) }, func() error { return os.Chmod(above, 0o755) }},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		want(false, what)
		if err := change.undo(); err != nil {
			t.Fatal(err)
		}
		want(true, "afterwards")
	}
}
