package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAJobThatEndsInTheWarmUpHasEnded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	for sig, how := range map[string]string{"TERM": "with status 0", "KILL": "by SIGKILL"} {
		c.run(how, func(t *testing.T) {
			j := a.oracle("--mem", "64")
			warm := make(chan struct{})
			move := spawn(t, 2*limit, onceSaid(`"phase":"warm-up"`, warm), shared.migrate, "--socket", a.socket(), "move", "--json", "--bandwidth", "8M", "--force", j.id, b.name)
			select {
			case <-warm:
			case <-time.After(limit):
				t.Fatal("the warm-up did not begin")
			}
			a.migrate("kill", "-s", sig, j.id).want(t, 0)
			r := move.wait().want(t, 7)
			e := last(decodeEvents(t, r.out)).Error
			if e == nil || e.Code != "ended" || !strings.Contains(e.Message, how) || !strings.Contains(e.Where, "over") || strings.Contains(e.Message, "/proc") {
				t.Errorf("the error is %+v", e)
			}
			a.migrate("move", j.id, b.name).want(t, 7).says(t, how)
			a.migrate("checkpoint", j.id, filepath.Join(c.dir, "saved")).want(t, 7).says(t, how)
			if _, err := os.Stat(filepath.Join(c.dir, "saved")); !os.IsNotExist(err) {
				t.Errorf("a checkpoint of it is left: %v", err)
			}
			a.migrate("rm", j.id).want(t, 0)
		})
	}
}

// onceSaid closes c at the first line with these words.
func onceSaid(words string, c chan<- struct{}) func(line string) {
	said := false
	return func(line string) {
		if !said && strings.Contains(line, words) {
			said = true
			close(c)
		}
	}
}

func TestAJobThatTheKernelKillsForWantOfMemoryIsToldSo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	a := c.nodes[0]
	const hog = "tail /dev/zero"
	why := []string{"the kernel killed a process of it for want of memory", "32.0 MiB"}
	a.migrate("run", "--memory", "32M", "-w", "/", "--", "/bin/sh", "-c", "exec "+hog).want(t, 137).says(t, append(why, "--memory")...)
	j := a.launch("--memory", "32M", "-w", "/", "--", "/bin/sh", "-c", hog+"; exit 5")
	a.migrate("wait", j.id).want(t, 5).says(t, why...)
	a.migrate("inspect", j.id).want(t, 0).lists(t, why...)
	if out := a.migrate("ps", "-a").want(t, 0).out; strings.Count(out, "exited (out of memory)") != 2 {
		t.Error(out)
	}
	copes := a.launch("--memory", "32M", "-w", "/", "--", "/bin/sh", "-c", hog+"; exit 0")
	a.migrate("wait", copes.id).want(t, 0).lacks(t, "memory")
}
