package node

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// refusal wants preflight to refuse a move, with this finding, and the job not to
// have noticed.
func (j *job) refused(from, to *node, code string, words ...string) {
	j.t.Helper()
	before := j.inspect(from)
	r := from.migrate("move", j.id, to.name).want(j.t, 3)
	r.says(j.t, append(words, code, "refused", from.name)...)
	events := decodeEvents(j.t, from.migrate("move", j.id, to.name, "--json").want(j.t, 3).out)
	e := events[len(events)-1].Error
	if e == nil || len(e.Findings) == 0 || e.Findings[0].Remedy == "" {
		j.t.Errorf("the last event has no finding with a remedy: %+v", e)
	}
	for _, each := range events {
		if each.Phase != "" && each.Phase != "preflight" {
			j.t.Errorf("a refused move got to the phase %s", each.Phase)
		}
	}
	if after := j.inspect(from); after.State != "running" || after.Init != before.Init {
		j.t.Errorf("the job is %s with PID 1 %d, was PID 1 %d", after.State, after.Init, before.Init)
	}
	if n := len(to.jobs()); n != 0 {
		j.t.Errorf("%s knows %d jobs after a refusal", to.name, n)
	}
}

func TestPreflightFindsWhatAJobHolds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	for name, tc := range map[string]struct {
		code string
		args []string
	}{
		"a device":    {"device-open", []string{"--bind", "/dev/fuse:/tmp/fuse", "--", shared.helper, "open", "/tmp/fuse"}},
		"an io_uring": {"io-uring", []string{"--", shared.helper, "io_uring"}},
	} {
		c.run(name, func(t *testing.T) {
			j := a.launch(tc.args...)
			j.numbers(a, 10)
			j.refused(a, b, tc.code)
			j.numbers(a, 20)
			dir := filepath.Join(c.dir, "refused")
			a.migrate("checkpoint", j.id, dir).want(t, 3).says(t, tc.code, "refused")
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("a refused checkpoint left %s: %v", dir, err)
			}
			j.numbers(a, 20)
		})
	}
	c.run("a visitor", func(t *testing.T) {
		j := a.oracle()
		visitor := a.visit(j)
		j.refused(a, b, "visitor-inside", "exec")
		visitor.signal(syscall.SIGINT)
		visitor.wait()
		j.move(a, b)
		j.finish(b)
	})
	c.run("a visitor that comes in the warm-up", func(t *testing.T) {
		j := a.oracle("--mem", "64")
		warm := make(chan struct{}, 1)
		move := spawn(t, 2*limit, func(line string) {
			if strings.Contains(line, `"phase":"warm-up"`) {
				select {
				case warm <- struct{}{}:
				default:
				}
			}
		}, shared.migrate, "--socket", a.socket(), "move", "--json", "--bandwidth", "8M", "--force", j.id, b.name)
		select {
		case <-warm:
		case <-time.After(limit):
			t.Fatal("the warm-up did not begin")
		}
		visitor := a.visit(j)
		r := move.wait().want(t, 4)
		e := last(decodeEvents(t, r.out)).Error
		if e == nil || len(e.Findings) != 1 || e.Findings[0].Code != "visitor-inside" || !strings.Contains(e.Where, "running") {
			t.Errorf("the error is %+v", e)
		}
		visitor.signal(syscall.SIGINT)
		visitor.wait()
		j.move(a, b)
		j.finish(b)
	})
}

func TestWhatAJobOpensInTheWarmUpIsFoundBeforeItStandsStill(t *testing.T) {
	t.Parallel()
	var data string
	c := newCluster(t, 2, func(c *cluster) {
		data = filepath.Join(c.dir, "data")
		c.must(os.MkdirAll(data, 0o755))
		c.nodes[1].cover = []string{"mount -t tmpfs none " + data}
	})
	a, b := c.two()
	j := a.launch("-w", "/tmp", "--bind", data+":/mnt", "--", "sh", "-c",
		shared.oracle+" --count --mem 64 & until [ -e /mnt/go ]; do sleep 0.05; done; exec 3>/mnt/late; echo opened >/mnt/done; wait")
	j.ready(a)
	warm := make(chan struct{}, 1)
	move := spawn(t, 2*limit, func(line string) {
		if strings.Contains(line, `"phase":"warm-up"`) {
			select {
			case warm <- struct{}{}:
			default:
			}
		}
	}, shared.migrate, "--socket", a.socket(), "move", "--json", "--bandwidth", "8M", "--force", j.id, b.name)
	select {
	case <-warm:
	case <-time.After(limit):
		t.Fatal("the warm-up did not begin")
	}
	c.must(os.WriteFile(filepath.Join(data, "go"), nil, 0o644))
	events := decodeEvents(t, move.wait().want(t, 4).out)
	e := last(events).Error
	if e == nil || len(e.Findings) != 1 || e.Findings[0].Code != "file-missing" || !strings.Contains(e.Where, "running") {
		t.Errorf("the error is %+v", e)
	}
	for _, each := range events {
		if each.Phase == "freeze" {
			t.Error("the job stood still")
		}
	}
	if readFile(filepath.Join(data, "done")) == "" {
		t.Error("the job had not opened the file")
	}
	j.ticks(a, 20)
}

// visit brings a process into a job, for longer than a move takes.
func (n *node) visit(j *job) *process {
	j.t.Helper()
	inside := make(chan struct{}, 1)
	p := spawn(j.t, 2*limit, func(string) { inside <- struct{}{} }, shared.migrate, "--socket", n.socket(), "exec", j.id, "--", "sh", "-c", "echo inside; exec sleep 100")
	select {
	case <-inside:
	case <-p.ended:
		j.t.Fatalf("no visit: %v", p.outcome)
	case <-time.After(limit):
		j.t.Fatal("the visitor is not inside yet")
	}
	return p
}

func TestPreflightFindsWhatTheTargetLacks(t *testing.T) {
	t.Parallel()
	var data string
	c := newCluster(t, 3, func(c *cluster) {
		data = filepath.Join(c.dir, "data")
		c.must(os.MkdirAll(filepath.Join(data, "in"), 0o755))
		c.must(os.WriteFile(filepath.Join(data, "program"), []byte(readFile(shared.oracle)), 0o755))
		// The directory is empty on the second node, and the third has an old CRIU.
		c.nodes[1].cover = []string{"mount -t tmpfs none " + data}
		c.nodes[2].criu = oldCRIU(c)
	})
	a, b, old := c.nodes[0], c.nodes[1], c.nodes[2]
	c.run("a bound directory", func(t *testing.T) {
		j := a.oracleIn([]string{"--bind", filepath.Join(data, "in") + ":/mnt"})
		j.refused(a, b, "mount-missing", filepath.Join(data, "in"))
		j.ticks(a, 20)
	})
	c.run("the program", func(t *testing.T) {
		j := a.launch("-w", "/tmp", "--", filepath.Join(data, "program"), "--count")
		j.ready(a)
		j.refused(a, b, "file-missing", filepath.Join(data, "program"))
		j.ticks(a, 20)
	})
	c.run("the working directory", func(t *testing.T) {
		j := a.launch("-w", filepath.Join(data, "in"), "--", shared.oracle, "--count")
		j.ready(a)
		j.refused(a, b, "work-dir-missing", filepath.Join(data, "in"))
		j.ticks(a, 20)
	})
	c.run("the bridge", func(t *testing.T) {
		c.ip("-n", a.netns, "link", "add", "br9", "type", "bridge")
		c.ip("-n", a.netns, "link", "set", "br9", "up")
		j := a.oracleIn([]string{"--net", "br9", "--address", "10.99.201.7/24"})
		j.refused(a, b, "bridge-missing", "br9")
		j.ticks(a, 20)
	})
	c.run("a CRIU that is new enough", func(t *testing.T) {
		j := a.oracle()
		j.refused(a, old, "criu-too-old", "3.17", "make setup")
		j.ticks(a, 20)
		j.move(a, b)
		j.finish(b)
	})
	c.run("an identical address", func(t *testing.T) {
		net := []string{"--net", "br1", "--address", "10.99.202.7/24"}
		j, there := a.oracleIn(net), b.oracleIn(net)
		r := a.migrate("move", j.id, b.name).want(t, 3)
		r.says(t, "address-taken", "10.99.202.7", there.id)
		j.ticks(a, 10)
	})
	c.run("what a checkpoint needs", func(t *testing.T) {
		j := a.launch("-w", "/tmp", "--", filepath.Join(data, "program"), "--count")
		j.ready(a)
		dir := filepath.Join(c.dir, "saved")
		a.migrate("checkpoint", j.id, dir).want(t, 0)
		b.migrate("restore", "-d", dir).want(t, 3).says(t, "file-missing", "program", dir)
		a.migrate("restore", "-d", dir).want(t, 0)
		j.ticks(a, 10)
	})
}

func TestPreflightRefusesMovesWithoutCRIU(t *testing.T) {
	c := newCluster(t, 2, func(c *cluster) { c.nodes[1].criu = filepath.Join(c.dir, "no-criu") })
	a, b := c.two()
	j := a.oracle()
	j.refused(a, b, "criu-missing", "make setup")
	j.ticks(a, 20)
	there := b.oracle()
	b.migrate("move", there.id, a.name).want(t, 3).says(t, "criu-missing", "make setup", b.name)
	b.migrate("checkpoint", there.id, filepath.Join(c.dir, "saved")).want(t, 3).says(t, "criu-missing", "make setup")
	there.ticks(b, 20)
	if log := readFile(b.logPath()); !strings.Contains(log, "no-criu") {
		t.Errorf("the agent's log does not name the CRIU that is missing: %s", log)
	}
}
