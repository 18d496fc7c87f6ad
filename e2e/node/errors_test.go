package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestErrorsOfUsageExitWithTwoAndSayWhatIsRight(t *testing.T) {
	c := newCluster(t, 1)
	a := c.nodes[0]
	j := a.oracle()
	for _, args := range [][]string{
		{"mvoe", j.id}, {"move"}, {"move", j.id}, {"move", j.id, "n2=nowhere"}, {"run"}, {"run", "--no-such-flag", "--", "true"},
		{"run", "--memory", "much", "--", "true"}, {"run", "--net", "none", "--address", "10.0.0.1/24", "--", "true"},
		{"run", "--hostname", "-bad-", "--", "true"}, {"run", "--ulimit", "nosuch=3", "--", "true"}, {"run", "--bind", "/etc:/proc/x", "--", "true"},
		{"kill", "-s", "NOSUCH", j.id}, {"exec", j.id}, {"checkpoint", j.id}, {"restore"}, {"restore", "--clock", "later", "/x"}, {"wait"}, {"inspect"},
		{"pki", "init"}, {"agent", "--peer", "n2"},
	} {
		a.migrate(args...).want(t, 2).says(t, "migrate:")
	}
	j.ticks(a, 10)
}

func TestErrorsSayWhatWhyWhereAndWhatNext(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "16")
	c.run("an unknown job", func(t *testing.T) {
		for _, verb := range [][]string{{"inspect"}, {"logs"}, {"wait"}, {"kill"}, {"rm"}, {"move", b.name}, {"exec", "true"}, {"checkpoint", "/var/tmp/x"}} {
			for _, ref := range []string{"jaaaaaaaaaa", "nobody"} {
				a.migrate(append([]string{verb[0], ref}, verb[1:]...)...).want(t, 1).says(t, ref, "no job", "try:", "migrate ps -a")
			}
		}
	})
	c.run("no agent", func(t *testing.T) {
		command(t, shared.migrate, "--socket", filepath.Join(c.dir, "none.sock"), "ps").want(t, 1).says(t, "none.sock", "migrate agent", "try:")
	})
	c.run("a command that cannot start", func(t *testing.T) {
		a.migrate("run", "-d", "--", "/no/such/program").want(t, 1).says(t, "/no/such/program", "nothing was started")
		a.migrate("run", "-d", "-w", "/no/such/dir", "--", "true").want(t, 1).says(t, "/no/such/dir", "nothing was started")
		a.migrate("run", "-d", "--bind", "/no/such/source:/mnt", "--", "true").want(t, 1).says(t, "/no/such/source", "nothing was started")
		a.migrate("run", "-d", "--net", "nobridge", "--address", "10.99.9.9/24", "--", "true").want(t, 3).says(t, "nobridge", "nothing was started")
		c.must(syscall.Mkfifo(filepath.Join(c.dir, "pipe"), 0o666))
		a.migrate("run", "-d", "--bind", c.dir+":/tmp/x", "-i", "/tmp/x/pipe", "--", "true").want(t, 1).says(t, "/tmp/x/pipe", "FIFO", "nothing was started")
		if n := len(a.jobs()); n != 1 {
			t.Errorf("%d jobs are known, want 1", n)
		}
	})
	c.run("the node that it is on", func(t *testing.T) {
		a.migrate("move", j.id, a.name).want(t, 2).says(t, a.name, "already")
	})
	c.run("an unreachable node", func(t *testing.T) {
		closedPort := strings.TrimSuffix(a.ip, ".1") + ".2:1"
		a.migrate("move", j.id, b.name+"="+closedPort).want(t, 1).says(t, b.name, closedPort, a.name, "running", "try:")
		a.migrate("move", j.id, "no-such-node.invalid").want(t, 1).says(t, "no-such-node.invalid", "running", "try:")
		j.ticks(a, 10)
	})
	c.run("another node than was meant", func(t *testing.T) {
		a.migrate("move", j.id, "n9="+b.addr()).want(t, 1).says(t, "n9", b.name, "running")
		j.ticks(a, 10)
	})
	c.run("a directory that exists", func(t *testing.T) {
		dir := filepath.Join(c.dir, "exists")
		c.must(os.Mkdir(dir, 0o755))
		a.migrate("checkpoint", j.id, dir).want(t, 1).says(t, dir, "exists", a.name, "running", "try:")
		a.migrate("checkpoint", j.id, filepath.Join(c.dir, "no", "parent")).want(t, 1).says(t, "parent", "running", "try:")
		j.ticks(a, 10)
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 0 {
			t.Errorf("the directory holds %v now: %v", entries, err)
		}
	})
	c.run("no checkpoint there", func(t *testing.T) {
		a.migrate("restore", "-d", filepath.Join(c.dir, "nothing")).want(t, 2).says(t, "nothing", "try:")
		a.migrate("restore", "-d", c.dir).want(t, 3).says(t, c.dir, "manifest")
	})
	j.move(a, b)
	c.run("the agent of the node that the job moved to is away", func(t *testing.T) {
		b.kill()
		a.migrate("inspect", j.id).want(t, 1).says(t, j.id, b.name, "does not answer", "the job: on "+b.name)
		b.start()
		j.ticks(a, 10)
	})
	c.run("interrupted", func(t *testing.T) {
		p := b.spawn("move", j.id, a.name)
		p.signal(syscall.SIGINT)
		if r := p.wait(); r.code != 0 && r.code != 130 {
			t.Errorf("an interrupted move: %v", r)
		}
		j.ticks(j.settled(c), 10)
	})
	j.finish(j.settled(c))
}

func TestPKIRefusesNodesOfAnotherCluster(t *testing.T) {
	mine, others := newCluster(t, 2), newCluster(t, 1)
	a, b := mine.two()
	b.kill()
	// The second node has a certificate with the right name, of another authority.
	b.identity = filepath.Join(b.dir, "foreign")
	command(t, shared.migrate, "pki", "issue", filepath.Join(others.dir, "ca"), b.name, "--out", b.identity).want(t, 0)
	b.start()
	j := a.oracle()
	a.migrate("move", j.id, b.name).want(t, 1).says(t, b.name, "certificate", "running", a.name, "try:")
	j.ticks(a, 20)
	there := b.oracle()
	b.migrate("move", there.id, a.name).want(t, 1).says(t, a.name, "certificate", "running", b.name, "try:")
	there.ticks(b, 20)
	if n := len(a.jobs()); n != 1 {
		t.Errorf("%s knows %d jobs, want its own only", a.name, n)
	}
}

func TestMoveAbortsOnAFullDiskOfTheTarget(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, func(c *cluster) {
		n := c.nodes[1]
		n.cover = []string{"mount -t tmpfs -o mode=755,size=256k none " + n.state()}
	})
	a, b := c.two()
	j := a.launch("-w", "/tmp", "--", "/bin/sh", "-c", `head -c 30000000 /dev/urandom | base64; exec `+shared.oracle+` --count`)
	j.ready(a)
	r := a.migrate("move", j.id, b.name)
	if r.code != 4 && r.code != 1 && r.code != 3 {
		t.Errorf("exit status %d of a move onto a full disk: %v", r.code, r)
	}
	r.says(t, "no space left", a.name, "running", "try:")
	if v := j.inspect(a); v.State != "running" {
		t.Errorf("the job is %s after the move was aborted", v.State)
	}
	had := strings.Count(j.logs(a), "tick ")
	eventually(t, limit, func() error {
		if now := strings.Count(j.logs(a), "tick "); now < had+20 {
			return fmt.Errorf("the job has counted to %d", now)
		}
		return nil
	})
	if n := len(b.jobs()); n != 0 {
		t.Errorf("%s knows %d jobs", b.name, n)
	}
	dir := filepath.Join(b.state(), "saved")
	full := b.oracle("--mem", "8")
	b.migrate("checkpoint", full.id, dir).want(t, 4).says(t, "no space left", "running", "try:")
	full.ticks(b, 10)
}

func TestJSONHasEventsAndErrors(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "32")
	e := j.move(a, b)
	if e.Done.Downtime <= 0 || e.Done.Took < e.Done.Downtime || e.Done.Sent < 16<<20 {
		t.Errorf("the result: %+v", *e.Done)
	}
	r := b.migrate("move", j.id, a.name).want(t, 0)
	r.lists(t, j.id, a.name, "downtime", "read", "sent")
	if r.err != "" || strings.Count(r.out, "\n") != 1 {
		t.Errorf("a move without a terminal prints more than one line: %v", r)
	}
	for _, args := range [][]string{{"ps", "--json"}, {"inspect", "--json", j.id}} {
		if out := a.migrate(args...).want(t, 0).out; !json.Valid([]byte(out)) {
			t.Errorf("%v prints no JSON: %s", args, clip(out))
		}
	}
}
