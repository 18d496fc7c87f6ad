package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freezer is how one cgroup is frozen and thawed.
type freezer struct {
	dir        string
	file       string
	on, off    string
	effect     string // the file that tells whether all are frozen
	frozenText string
}

func freezerOf(dir string) freezer {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err == nil {
		return freezer{dir, "cgroup.freeze", "1", "0", "cgroup.events", "frozen 1"}
	}
	return freezer{dir, "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN"}
}

func (f freezer) write(t *testing.T, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, f.file), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// freeze suspends what is in there as a scheduler does, and makes sure that the test leaves
// nothing frozen.
func (f freezer) freeze(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { _ = os.WriteFile(filepath.Join(f.dir, f.file), []byte(f.off), 0) })
	eventually(t, limit, func() error {
		f.write(t, f.on)
		return f.holds()
	})
}

func (f freezer) thaw(t *testing.T) {
	t.Helper()
	f.write(t, f.off)
}

func (f freezer) holds() error {
	if now := readFile(filepath.Join(f.dir, f.effect)); !strings.Contains(now, f.frozenText) {
		return fmt.Errorf("%s is %q", f.dir, now)
	}
	return nil
}

// stepOf makes a cgroup such as a scheduler makes.
func stepOf(t *testing.T, c *cluster) string {
	t.Helper()
	root := "/sys/fs/cgroup/freezer"
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		root = "/sys/fs/cgroup"
	}
	dir := filepath.Join(root, "step-"+c.tag)
	c.must(os.Mkdir(dir, 0o755))
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(dir, freezerOf(dir).file), []byte(freezerOf(dir).off), 0)
		eventually(t, limit, func() error { return syscall.Rmdir(dir) })
	})
	return dir
}

// inStep starts a job in the foreground of a shell that is in the step.
func (n *node) inStep(t *testing.T, dir string) *job {
	t.Helper()
	name := "step-" + strconv.FormatInt(clusters.Add(1), 36)
	p := begin(t, time.Hour, nil, "sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@" >/dev/null`, dir,
		shared.migrate, "--socket", n.socket(), "run", "--name", name, "-w", "/tmp", "--", shared.oracle, "--count", "--mem", "8")
	j := &job{t: t}
	eventually(t, limit, func() error {
		select {
		case <-p.ended:
			t.Fatalf("the job was not started: %v", p.outcome)
		default:
		}
		for _, v := range n.jobs() {
			if v.Spec.Name == name {
				j.id = v.ID
				return nil
			}
		}
		return errors.New("the job is not there")
	})
	j.ready(n)
	return j
}

// staysSuspended wants the job to stay frozen, for anything that its user types, and to be where it was
// afterwards.
func (j *job) staysSuspended(a, b *node, f freezer) {
	j.t.Helper()
	had := j.judge(a).Last.Counter
	dir := filepath.Join(a.dir, "ckpt-"+j.id)
	for _, args := range [][]string{
		{"move", j.id, b.name}, {"move", "--force", "--post-copy", j.id, b.name}, {"checkpoint", j.id, dir}, {"checkpoint", "--leave-running", j.id, dir}, {"exec", j.id, "true"},
	} {
		a.migrate(args...).want(j.t, 3).says(j.t, "suspended", f.dir, "echo "+f.off+" > "+filepath.Join(f.dir, f.file), "try:")
		if err := f.holds(); err != nil {
			j.t.Errorf("after %v: %v", args, err)
		}
	}
	if v := j.inspect(a); v.State != "suspended" {
		j.t.Errorf("the job is %s", v.State)
	}
	a.migrate("rm", j.id).want(j.t, 1).says(j.t, "suspended")
	if now := j.judge(a).Last.Counter; now != had {
		j.t.Errorf("it has counted from %d to %d", had, now)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		j.t.Errorf("%s: %v", dir, err)
	}
	for _, v := range b.jobs() {
		if v.ID == j.id {
			j.t.Errorf("%s has it as %s", b.name, v.State)
		}
	}
}

func TestSuspendedJobIsRefusedAndLeftSuspended(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	for name, of := range map[string]func(t *testing.T) (*job, string){
		"the job's own cgroup": func(t *testing.T) (*job, string) {
			j := a.oracle("--mem", "8")
			return j, j.inspect(a).CgroupDir
		},
		"a cgroup above it": func(t *testing.T) (*job, string) {
			dir := stepOf(t, c)
			return a.inStep(t, dir), dir
		},
		"where only we freeze": func(t *testing.T) (*job, string) {
			j := a.oracle("--mem", "8")
			return j, filepath.Join(j.inspect(a).CgroupDir, "held")
		},
	} {
		c.run(name, func(t *testing.T) {
			j, dir := of(t)
			f := freezerOf(dir)
			f.freeze(t)
			j.staysSuspended(a, b, f)
			a.kill() // nor does the next agent end it
			a.start()
			j.staysSuspended(a, b, f)
			heard := 0
			if r := a.migrate("kill", "-s", "USR1", j.id); r.code == 0 { // waits, as kill(2) does
				heard = 1
			} else {
				r.want(t, 3).says(t, "suspended", f.dir) // its shim is, too
			}
			if err := f.holds(); err != nil {
				t.Error(err)
			}
			f.thaw(t)
			j.ticks(a, 20)
			if n := len(j.judge(a).States); n != heard {
				t.Errorf("the signal was heard %d times, want %d", n, heard)
			}
			a.migrate("exec", j.id, "true").want(t, 0)
			j.move(a, b)
			j.finish(b)
			j.remove(c)
		})
	}
}

// A freeze that comes while the job moves ends the move before the commit, and outlives it.
func TestSuspendedDuringAMoveStaysOnTheSource(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	for _, point := range []string{"after.source.frozen", "criu.pre-dump", "criu.query-ext-files", "dump.ended", "images.sent"} {
		c.run(point, func(t *testing.T) {
			dir := stepOf(t, c)
			j := a.inStep(t, dir)
			a.plan(point + " 1 pause")
			move := a.spawn("move", "--force", j.id, b.name)
			c.must(a.awaitHit(point, move))
			f := freezerOf(dir)
			f.write(t, f.on) // with tasks that CRIU holds it takes until that lets go
			a.amend()
			r := move.wait().says(t, "suspended", dir, "try:")
			if r.code != 4 && r.code != 5 { // CRIU lets go of tasks that it holds when they are resumed
				t.Errorf("the move ended otherwise: %v", r)
			}
			t.Logf("status %d", r.code)
			eventually(t, limit, f.holds)
			if v := j.inspect(a); v.State != "suspended" && r.code == 4 {
				t.Errorf("the job is %s", v.State)
			}
			if r := a.migrate("move", "--force", j.id, b.name).says(t, j.id); r.code == 0 {
				t.Errorf("it has moved: %v", r)
			}
			f.thaw(t)
			j.runsOn(a)
			j.ticks(a, 20)
			j.move(a, b)
			j.finish(b)
			j.remove(c)
		})
	}
}

// From the commit on the job is the target's, and only the frozen copy is suspended.
func TestSuspendedAfterTheCommitTheFrozenCopyIsEndedLater(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	dir := stepOf(t, c)
	j := a.inStep(t, dir)
	a.plan("after.source.committed 1 pause")
	move := a.spawn("move", "--force", j.id, b.name)
	c.must(a.awaitHit("after.source.committed", move))
	f := freezerOf(dir)
	f.freeze(t)
	a.amend()
	move.wait().want(t, 6).says(t, "suspended", dir)
	j.runsOn(b)
	j.ticks(b, 20)
	if err := f.holds(); err != nil {
		t.Error(err)
	}
	f.thaw(t)
	eventually(t, limit, func() error {
		if left := a.copyOf(j); left != "" {
			return fmt.Errorf("%s is still there", left)
		}
		return nil
	})
	j.finish(b)
	j.remove(c)
}

func TestSuspendedJobCanBeKilled(t *testing.T) {
	c := newCluster(t, 1)
	a := c.nodes[0]
	c.run("where it is suspended", func(t *testing.T) {
		j := a.oracle("--mem", "8")
		freezerOf(j.inspect(a).CgroupDir).freeze(t) // version 1 holds even the killed
		a.migrate("kill", "-s", "KILL", j.id).want(t, 0)
		a.migrate("wait", j.id).want(t, 137)
		a.migrate("rm", j.id).want(t, 0)
	})
	c.run("above, with its shim", func(t *testing.T) {
		dir := stepOf(t, c)
		j := a.inStep(t, dir)
		f := freezerOf(dir)
		f.freeze(t)
		a.migrate("kill", "-s", "KILL", j.id).want(t, 0)
		a.migrate("rm", "-f", j.id).want(t, 3).says(t, "ends as soon as it is resumed", f.dir)
		f.thaw(t)
		a.migrate("wait", j.id).want(t, 137)
		a.migrate("rm", j.id).want(t, 0)
	})
	c.run("where only we freeze", func(t *testing.T) {
		j := a.oracle("--mem", "8")
		freezerOf(filepath.Join(j.inspect(a).CgroupDir, "held")).freeze(t)
		a.migrate("rm", "-f", j.id).want(t, 0)
	})
}

// signalAll sends a signal to every process of the job.
func (j *job) signalAll(n *node, sig syscall.Signal) {
	j.t.Helper()
	for _, p := range j.inspect(n).Pids {
		_ = syscall.Kill(p.Host, sig) // one may have ended
	}
}

// stands waits until every process of the job is stopped.
func (j *job) stands(n *node) {
	j.t.Helper()
	eventually(j.t, limit, func() error {
		for _, p := range j.inspect(n).Pids {
			stat := readFile(fmt.Sprintf("/proc/%d/stat", p.Host))
			if stat != "" && !strings.Contains(stat, ") T ") && !strings.Contains(stat, ") Z ") {
				return fmt.Errorf("process %d is not stopped: %s", p.Host, clip(stat))
			}
		}
		return nil
	})
}

func TestStoppedJobMovesStoppedAndGoesOnWhenItIsContinued(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	j := here.oracle("--mem", "8", "--tree", "2")
	for range 2 {
		j.signalAll(here, syscall.SIGSTOP)
		j.stands(here)
		had := j.judge(here).Last.Counter
		j.move(here, there)
		here, there = there, here
		j.stands(here)
		if now := j.judge(here).Last.Counter; now != had {
			t.Errorf("it has counted from %d to %d", had, now)
		}
		j.signalAll(here, syscall.SIGCONT)
		j.ticks(here, 20)
	}
	j.finish(here)
}

// SIGCONT that comes while the job is frozen is not lost, whichever copy runs.
func TestStoppedJobThatIsContinuedWhileItIsFrozenRunsAfterTheMove(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.oracle("--mem", "8", "--tree", "2")
	j.signalAll(a, syscall.SIGSTOP)
	j.stands(a)
	a.plan("after.source.frozen 1 pause")
	move := a.spawn("move", "--force", j.id, b.name)
	c.must(a.awaitHit("after.source.frozen", move))
	j.signalAll(a, syscall.SIGCONT)
	a.amend()
	move.wait().want(t, 0)
	j.runsOn(b)
	j.ticks(b, 20)
	j.finish(b)
}

func TestStoppedJobStaysStoppedWhenItsMoveIsAborted(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.oracle("--mem", "8", "--tree", "2")
	j.signalAll(a, syscall.SIGSTOP)
	j.stands(a)
	a.plan("dump.ended 1 eio")
	a.migrate("move", "--force", j.id, b.name).want(t, 4)
	a.amend()
	j.runsOn(a)
	j.stands(a)
	j.signalAll(a, syscall.SIGCONT)
	j.ticks(a, 20)
	j.move(a, b)
	j.finish(b)
}
