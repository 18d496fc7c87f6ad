package vm

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestSuspendedJobIsLeftAloneOnCgroup2(t *testing.T) {
	c := newCluster(t)
	step := "/sys/fs/cgroup/step"
	c.sh(c.A, "mkdir -p "+step)
	c.sh(c.A, fmt.Sprintf(`setsid sh -c 'echo $$ >%s/cgroup.procs && exec setpriv --reuid %d --regid %d --clear-groups %s run --name step -w /tmp -- %s --count --mem 8' >/dev/null 2>&1 </dev/null &`,
		step, ada, ada, Migrate, Oracle))
	inStep := &job{c, "", ada}
	c.eventually(func() error {
		for _, v := range decode[view](t, c.must(c.A, ada, "ps", "--json")) {
			if v.State == "running" {
				inStep.id = v.ID
				if strings.Contains(inStep.logs(c.A), "ready\n") {
					return nil
				}
			}
		}
		return fmt.Errorf("the job in the step is not ready")
	})
	own := c.oracle(c.A, ada, nil, "--mem", "8")
	for _, s := range []struct {
		*job
		dir string
	}{{own, own.inspect(c.A).CgroupDir}, {own, filepath.Join(own.inspect(c.A).CgroupDir, "held")}, {inStep, step}} {
		freeze := func(value string) { c.sh(c.A, fmt.Sprintf("echo %s >%s/cgroup.freeze", value, s.dir)) }
		freeze("1")
		c.eventually(func() error {
			if v := s.inspect(c.A); v.State != "suspended" {
				return fmt.Errorf("with %s frozen the job is %s", s.dir, v.State)
			}
			return nil
		})
		for _, args := range [][]string{{"move", "--force", s.id, "b"}, {"checkpoint", "--leave-running", s.id, "/tmp/saved"}, {"exec", s.id, "true"}} {
			if r := c.migrate(c.A, ada, args...); r.Code != 3 || !strings.Contains(r.Err, s.dir+"/cgroup.freeze") {
				t.Errorf("%q with %s frozen: exit status %d: %s", args, s.dir, r.Code, r.Err)
			}
		}
		if now := strings.TrimSpace(c.sh(c.A, "cat "+s.dir+"/cgroup.freeze")); now != "1" {
			t.Errorf("%s: it is thawed", s.dir)
		}
		freeze("0")
		s.ticks(c.A, 20)
	}
	// Tasks that a signal has stopped move as they are.
	signal := func(n *Node, name string) {
		var pids []string
		for _, p := range own.inspect(n).Pids {
			pids = append(pids, strconv.Itoa(p.Host))
		}
		c.sh(n, "kill -"+name+" "+strings.Join(pids, " "))
	}
	signal(c.A, "STOP")
	own.move(c.A, c.B)
	signal(c.B, "CONT")
	own.ticks(c.B, 20)
	inStep.move(c.A, c.B)
	inStep.ticks(c.B, 20)
	own.finish(c.B)
	inStep.finish(c.B)
	c.eventually(func() error {
		if left := c.sh(c.A, "rmdir "+step+" 2>&1; find "+step+" -mindepth 1 -type d 2>/dev/null; true"); left != "" {
			return fmt.Errorf("left: %s", left)
		}
		return nil
	})
}
