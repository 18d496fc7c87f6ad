package node

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestMoveKeepsNamespacesPrivate(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	kinds := []string{"pid", "ipc", "net", "uts", "time", "mnt", "cgroup"}
	for name, mode := range map[string]struct{ flags, own []string }{
		"without a user namespace": {nil, kinds},
		"with a user namespace":    {[]string{"--user-ns"}, append([]string{"user"}, kinds...)},
	} {
		c.run(name, func(t *testing.T) {
			j := a.oracleIn(append(mode.flags, "--hostname", "the-same-host"), "--tree", "3", "--sysv")
			before := j.stablePids(a)
			j.hasOwn(a, mode.own)
			j.move(a, b)
			j.hasOwn(b, mode.own)
			if after := j.stablePids(b); !slices.Equal(before, after) {
				t.Errorf("pids in the job are %v after the move, were %v", after, before)
			}
			if got := b.migrate("exec", j.id, "hostname").want(t, 0).out; got != "the-same-host\n" {
				t.Errorf("hostname is %q after the move", got)
			}
			if s := j.state(b); s.Checks["shm"] == 0 || s.Checks["sem"] == 0 || s.Checks["msg"] == 0 {
				t.Errorf("System V ids were not checked: %+v", s)
			}
			j.ticks(b, 20)
		})
	}
}

// hasOwn wants the job to differ from the test in every kind of namespace, and
// exec to get into all of them.
func (j *job) hasOwn(n *node, kinds []string) {
	j.t.Helper()
	v := j.inspect(n)
	for _, kind := range kinds {
		host, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			j.t.Fatal(err)
		}
		if own := v.Namespaces[kind]; own == "" || own == host {
			j.t.Errorf("on %s the %s namespace is %q, that of the host %q", n.name, kind, own, host)
		}
	}
	all := slices.Sorted(maps.Keys(v.Namespaces))
	var paths []string
	for _, kind := range all {
		paths = append(paths, "/proc/self/ns/"+kind)
	}
	got := strings.Fields(n.migrate(append([]string{"exec", j.id, "readlink"}, paths...)...).want(j.t, 0).out)
	for i, kind := range all {
		if i >= len(got) || got[i] != v.Namespaces[kind] {
			j.t.Errorf("exec on %s is in %v, and the job's %s namespace is %s", n.name, got, kind, v.Namespaces[kind])
		}
	}
}

// stablePids are the pids, as the job sees them, of processes that live longer
// than a moment.
func (j *job) stablePids(n *node) []int {
	j.t.Helper()
	seen := map[int]int{}
	const looks = 3
	for range looks {
		for _, p := range j.inspect(n).Pids {
			seen[p.Job]++
		}
		j.ticks(n, 5)
	}
	maps.DeleteFunc(seen, func(_, times int) bool { return times < looks })
	pids := slices.Sorted(maps.Keys(seen))
	if len(pids) < 4 || pids[0] != 1 {
		j.t.Fatalf("pids in the job: %v", pids)
	}
	return pids
}

func TestMoveOfEqualJobsFromTwoNodesToAThird(t *testing.T) {
	c := newCluster(t, 3)
	third := c.nodes[2]
	var jobs []*job
	var ids []map[string]int64
	for i, from := range c.nodes[:2] {
		// Their addresses are equal, too, so they hang on bridges that are not connected.
		bridge := fmt.Sprintf("br%d", i)
		j := from.launch("--hostname", "twin", "--net", bridge, "--address", "10.99.200.7/24", "--mac", "02:00:00:00:00:07", "-w", "/tmp", "--",
			"/bin/sh", "-c", `echo 100 >/proc/sys/kernel/ns_last_pid && exec "$0" "$@"`, shared.oracle, "--count", "--tree", "2", "--sysv")
		j.ready(from)
		jobs = append(jobs, j)
		ids = append(ids, j.judge(from).IDs)
	}
	for i, j := range jobs {
		j.move(c.nodes[i], third)
	}
	if !maps.Equal(ids[0], ids[1]) || ids[0]["key"] == 0 {
		t.Errorf("the jobs are not equal to begin with: %v, %v", ids[0], ids[1])
	}
	// PID 1 and its first child; which pid a zombie or a moment's child gets is chance.
	if one, two := jobs[0].stablePids(third), jobs[1].stablePids(third); !slices.Equal(one[:2], []int{1, 101}) || !slices.Equal(one[:2], two[:2]) {
		t.Errorf("the pids in the jobs are %v and %v", one, two)
	}
	for i, j := range jobs {
		j.runsOn(third)
		r := j.ticks(third, 20)
		if r.Hostname != "twin" || r.PID != 1 {
			t.Errorf("job %d is pid %d on %q", i, r.PID, r.Hostname)
		}
		if got := third.migrate("exec", j.id, "ip", "-o", "addr", "show", "eth0").want(t, 0).out; !strings.Contains(got, "10.99.200.7/24") {
			t.Errorf("addresses of job %d: %s", i, got)
		}
	}
	for _, j := range jobs {
		if s := j.state(third); s.Checks["shm"] == 0 || s.Checks["msg"] == 0 {
			t.Errorf("not checked: %+v", s)
		}
		j.finish(third)
	}
}
