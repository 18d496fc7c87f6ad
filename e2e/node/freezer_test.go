package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// A user who was given a cgroup can put tasks of his there, and so out of a freezer.
func TestCgroupMoveOutOfTheFreezerAbortsTheMove(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.alice("--", shared.oracle, "--count", "--mem", "8")
	j.ready(a)
	v := j.inspect(a)
	given := filepath.Join(filepath.Dir(v.CgroupDir), "alice-"+j.id)
	c.must(os.Mkdir(given, 0o755))
	t.Cleanup(func() { eventually(t, limit, func() error { return os.Remove(given) }) })
	c.must(os.Chown(filepath.Join(given, "cgroup.procs"), 12345, 12345))
	a.plan("dump.ended 1 pause")
	move := spawn(t, limit, nil, "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", shared.migrate, "--socket", a.socket(), "move", j.id, b.name)
	c.must(a.awaitHit("dump.ended", move))
	for _, e := range v.Pids {
		take := "echo " + strconv.Itoa(e.Host) + " >" + given + "/cgroup.procs"
		args := []string{"sh", "-c", take}
		if _, err := os.Stat(filepath.Join(v.CgroupDir, "freezer.state")); err == nil { // version 1 asks for no more
			args = append([]string{"setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"}, args...)
		}
		command(t, args[0], args[1:]...).want(t, 0)
	}
	a.amend()
	move.wait().want(t, 4).says(t, "cgroup")
	eventually(t, limit, func() error {
		if on := j.runs(c); len(on) != 1 || on[0] != a.name {
			return fmt.Errorf("the job runs on %q", on)
		}
		return nil
	})
	j.ticks(a, 20)
	j.remove(c)
}
