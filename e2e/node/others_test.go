package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What one user does, and what that must not be to others and to root.

// alice starts a job of user 12345's in the background.
func (n *node) alice(args ...string) *job {
	n.c.t.Helper()
	r := n.as("12345", append([]string{"run", "-d", "--user-ns", "-w", "/tmp"}, args...)...).want(n.c.t, 0)
	return &job{n.c.t, strings.TrimSpace(r.out)}
}

func TestUsersNamesOfJobsAreNotRoots(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.alice("--name", "sim", "--", shared.oracle, "--count", "--mem", "8")
	j.ready(a)
	for range 2 { // before and after a move
		for _, verb := range []string{"exec sim true", "kill -s KILL sim", "rm -f sim", "move sim " + b.name, "logs sim", "wait sim", "inspect sim", "checkpoint sim " + c.dir + "/stolen"} {
			r := a.migrate(strings.Fields(verb)...).want(t, 1).says(t, j.id, "user 12345", "the same command with the id: "+j.id)
			if strings.Contains(r.out, "tick") {
				t.Errorf("%s: %v", verb, r)
			}
		}
		if got := a.as("12345", "exec", "sim", "id", "-u").want(t, 0).out; got != "12345\n" {
			t.Errorf("alice's own name leads to user %q", got)
		}
		if a.as("12345", "inspect", "sim", "--json").want(t, 0); j.inspect(a).Node == a.name {
			a.as("12345", "move", "sim", b.name).want(t, 0)
		}
	}
	j.runsOn(b)
	j.ticks(b, 20)
	own := a.launch("--name", "sim", "-w", "/", "--", "sleep", "1000")
	if got := (&job{t, "sim"}).inspect(a).ID; got != own.id {
		t.Errorf("root's own sim is %s, not %s", got, own.id)
	}
	j.finish(b)
}

func TestLogsAreTheirUsersAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.alice("--", shared.oracle, "--count", "--mem", "8")
	j.ready(a)
	closed := func(n *node) {
		t.Helper()
		for _, stream := range []string{"stdout", "stderr"} {
			path := filepath.Join(n.state(), "jobs", j.id, "io", stream)
			if mode := strings.TrimSpace(command(t, "stat", "-c", "%a %u", path).want(t, 0).out); mode != "600 12345" {
				t.Errorf("%s on %s has mode and owner %s", stream, n.name, mode)
			}
			if r := command(t, "setpriv", "--reuid", "12346", "--regid", "12345", "--clear-groups", "cat", path); r.code == 0 {
				t.Errorf("a member of the user's group reads %s on %s: %v", stream, n.name, r)
			}
			command(t, "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", "cat", path).want(t, 0)
		}
	}
	closed(a)
	for _, flags := range [][]string{nil, {"--eager", "--force"}} {
		a.as("12345", append([]string{"move", j.id, b.name}, flags...)...).want(t, 0)
		closed(b)
		a, b = b, a
	}
	dir := filepath.Join(c.dir, "open")
	c.must(errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777)))
	a.as("12345", "checkpoint", j.id, filepath.Join(dir, "saved")).want(t, 0)
	a.as("12345", "restore", "-d", filepath.Join(dir, "saved")).want(t, 0)
	closed(a)
	j.ticks(a, 20)
	j.finish(a)
}

func TestUsernsIDsAreNotTheUsersToChoose(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	victim := n.alice("--", "sleep", "1000")
	taken := victim.inspect(n).Spec.UIDBase
	for _, want := range []string{fmt.Sprintf(`"uid_base":%d`, taken), `"uid_base":1000`, `"uid_base":65536`, `"uid":0,"gid":5`, `"groups":[0]`, `"umask":511`} {
		body := `{"spec":{"args":["sleep","1000"],"work_dir":"/","user_ns":true,` + want + `}}`
		r := command(t, "setpriv", "--reuid", "12346", "--regid", "12346", "--clear-groups", shared.helper, "ask", n.socket(), "/v1/jobs", body).want(t, 0)
		if !strings.Contains(r.out, `"code":"usage"`) || !strings.Contains(r.out, "the node decides that") {
			t.Errorf("%s: %s", want, r.out)
		}
	}
	var starting []*process
	for range 6 {
		starting = append(starting, spawn(t, limit, nil, "setpriv", "--reuid", "12346", "--regid", "12346", "--clear-groups",
			shared.migrate, "--socket", n.socket(), "run", "-d", "--user-ns", "-w", "/", "--", "sleep", "1000"))
	}
	for _, p := range starting {
		p.wait().want(t, 0)
	}
	jobs, has := n.jobs(), map[uint32]string{}
	for _, v := range jobs {
		base := v.Spec.UIDBase
		if other := has[base]; other != "" || base%(1<<16) != 0 || base < 1<<30 || base >= 1<<31 {
			t.Errorf("job %s has %d and up, and so has %q", v.ID, base, other)
		}
		has[base] = v.ID
		(&job{t, v.ID}).remove(c)
	}
	if len(jobs) != 7 {
		t.Errorf("%d jobs run", len(jobs))
	}
}

func TestAgentRefusesDirectoriesOfUsers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	run, home := filepath.Join(c.dir, "other", "run"), filepath.Join(c.dir, "alice")
	if command(t, "stat", "-f", "-c", "%T", c.dir).out == "tmpfs\n" {
		t.Fatalf("%s is a tmpfs: what lies in /dev/shm elsewhere lies in RUN", c.dir)
	}
	sum := sha256.Sum256([]byte(run))
	memory := "/dev/shm/migrate-" + hex.EncodeToString(sum[:6])
	t.Cleanup(func() { c.must(os.RemoveAll(memory)) })
	c.must(errors.Join(os.MkdirAll(filepath.Dir(run), 0o755), os.MkdirAll(filepath.Join(home, "pki"), 0o755), os.MkdirAll(filepath.Join(home, "link"), 0o755)))
	c.must(errors.Join(os.CopyFS(filepath.Join(home, "pki"), os.DirFS(n.pki())), os.Chmod(filepath.Join(home, "pki", "node.key"), 0o600)))
	c.must(os.Chown(home, 12345, 12345))
	agent := func(flags ...string) *process {
		args := append([]string{"agent", "--node", n.name, "--criu", n.criu, "--listen", "127.0.0.1:0", "--run", run, "--state", filepath.Join(c.dir, "other", "state"), "--pki", n.pki()}, flags...)
		return spawn(t, limit, nil, shared.migrate, args...)
	}
	command(t, "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", "mkdir", memory).want(t, 0)
	agent().wait().want(t, 1).says(t, memory+" belongs to user 12345", "rm -r "+memory, "migrate agent --run DIR")
	for option, path := range map[string]string{"--state": home + "/state", "--run": home + "/run", "--socket": home + "/agent.sock", "--pki": home + "/pki"} {
		command(t, "rm", "-rf", memory).want(t, 0)
		agent(option, path).wait().want(t, 1).says(t, home+" belongs to user 12345", "migrate agent "+option+" DIR")
	}
	left, err := os.ReadDir(home)
	if len(left) != 2 || err != nil {
		t.Errorf("in alice's directory are %v (%v)", left, err)
	}
	command(t, "rm", "-rf", memory).want(t, 0)
	p := agent()
	eventually(t, limit, func() error {
		if r := command(t, shared.migrate, "--socket", run+"/agent.sock", "ps"); r.code != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	if mode := command(t, "stat", "-c", "%a %u", memory).out; mode != "700 0\n" {
		t.Errorf("the directory for jobs' memory has mode and owner %s", mode)
	}
	p.signal(syscall.SIGTERM)
	p.wait().want(t, 0)
}

// A socket that a user made is no agent's, for root least of all.
func TestSocketOfAUserIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	dir := filepath.Join(c.dir, "alice")
	c.must(errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, 12345, 12345)))
	sock, got := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "got")
	spawn(t, limit, nil, "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", shared.helper, "listen", sock, got)
	eventually(t, limit, func() error { _, err := os.Stat(sock); return err })
	for _, args := range [][]string{{"ps"}, {"run", "-w", "/", "--env", "SECRET=1", "--", "true"}, {"exec", "x", "true"}} {
		command(t, shared.migrate, append([]string{"--socket", sock}, args...)...).want(t, 1).says(t, "user 12345 listens there")
	}
	if data, err := os.ReadFile(got); len(data) > 0 || err != nil {
		t.Errorf("alice was told %q (%v)", data, err)
	}
}

func TestTerminalOfRootGetsNoEscapesOfUsers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	const title, csi = "\x1b]0;owned\x07", "\u009b2J"
	j := n.alice("--", "sh", "-c", `cp /bin/sleep "$0"; "$0" 1000 & printf '%s\n' "$0" shown; wait`, "/tmp/"+title+csi)
	eventually(t, limit, func() error {
		if out := j.logs(n); !strings.Contains(out, "shown\n") {
			return fmt.Errorf("the job says %q", out)
		}
		return nil
	})
	if out := j.logs(n); !strings.Contains(out, title+csi) {
		t.Errorf("a pipe gets not all of the job's output: %q", out)
	}
	filed := n.alice("-o", "/tmp/"+title+csi+"\ntry: rm -rf", "--", "sleep", "1000")
	for _, args := range []string{"logs " + j.id, "inspect " + j.id, "inspect --json " + j.id, "ps", "ps --json", "logs " + filed.id, "inspect " + filed.id, "exec " + j.id + " cat /proc/1/cmdline"} {
		r := command(t, "script", "-qec", shared.migrate+" --socket "+n.socket()+" "+args, "/dev/null")
		if bytes.ContainsAny([]byte(r.out), "\x1b\a\u009b") || strings.Contains(r.out, "\ntry: rm") || r.out == "" {
			t.Errorf("a terminal gets %q from %s", r.out, args)
		}
	}
	j.remove(c)
	filed.remove(c)
}
