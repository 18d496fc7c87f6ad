package vm

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

func TestUsersJobsMoveAndStayTheirs(t *testing.T) {
	c := newCluster(t)
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			j := c.oracle(c.A, ada, append([]string{"--ulimit", "nofile=500:600"}, flags...), "--mem", "8", "--check", "8", "--sysv")
			c.owned(c.A, j, len(flags) > 0)
			c.bounded(c.A, j)
			j.move(c.A, c.B)
			j.ticks(c.B, 20)
			c.owned(c.B, j, len(flags) > 0)
			c.bounded(c.B, j)
			c.private(c.B, j)
			c.private(c.A, j)
			j.checked(c.B, "mem", "shm", "sem", "msg")
			j.finish(c.B)
		})
	}
}

// owned wants every process of the job to have ada's ids, or mapped ones. One that has ended
// never runs again; CRIU makes it as root.
func (c *cluster) owned(n *Node, j *job, mapped bool) {
	c.t.Helper()
	seen := 0
	for _, p := range j.inspect(n).Pids {
		uid := strings.TrimSpace(c.sh(n, fmt.Sprintf("grep -qs '^State:.Z' /proc/%d/status || stat -c %%u /proc/%d 2>/dev/null; true", p.Host, p.Host)))
		if uid == "" {
			continue // a child of a moment
		}
		seen++
		if !mapped && uid != "1001" || uid == "0" {
			c.t.Errorf("process %d of ada's job runs on %s as uid %s", p.Host, n.Name, uid)
		}
	}
	if seen == 0 {
		c.t.Errorf("ada's job has no process on %s", n.Name)
	}
	if got := strings.TrimSpace(c.must(n, ada, "exec", j.id, "id", "-u")); got != "1001" {
		c.t.Errorf("in the job ada is uid %q", got)
	}
}

// bounded wants an exec to have the job's limits and its group, and the job a session keyring
// of its own, before a move and after it.
func (c *cluster) bounded(n *Node, j *job) {
	c.t.Helper()
	if got := c.must(n, ada, "exec", j.id, "sh", "-c", "ulimit -Hn; ulimit -Sn; id -G"); got != "600\n500\n1001\n" {
		c.t.Errorf("on %s exec has %q, want 600, 500 and the group 1001", n.Name, got)
	}
	c.eventually(func() error { // that of the exec goes a little later
		const used = `awk '$3 > 0 && $6 == 0 && $8 == "keyring" && index($9, "migrate:%s:") == 1' /proc/keys | wc -l`
		if got := strings.TrimSpace(c.sh(n, fmt.Sprintf(used, j.id))); got != "1" {
			return fmt.Errorf("on %s %s keyrings are the job's", n.Name, got)
		}
		return nil
	})
}

// private wants bob neither to see ada's job nor to do anything with it.
func (c *cluster) private(n *Node, j *job) {
	c.t.Helper()
	if out := c.must(n, bob, "ps", "-a", "--json"); strings.Contains(out, j.id) {
		c.t.Errorf("bob sees ada's job on %s: %s", n.Name, out)
	}
	for _, args := range [][]string{
		{"inspect", j.id}, {"logs", j.id}, {"kill", j.id}, {"exec", j.id, "true"}, {"rm", "-f", j.id},
		{"move", j.id, n.Other().Name}, {"checkpoint", j.id, "/tmp/stolen"}, {"wait", j.id},
	} {
		if r := c.migrate(n, bob, args...); r.Code == 0 || strings.Contains(r.Out, "tick") {
			c.t.Errorf("bob may %v on %s: %s", args, n.Name, r.Out)
		}
	}
	member := api.Command{Args: []string{"cat", "/var/lib/migrate/jobs/" + j.id + "/io/stdout"}, UID: uint32(bob), GID: uint32(ada), Dir: "/"}
	if r, err := n.Run(c.t.Context(), member); err != nil || r.Code == 0 {
		c.t.Errorf("a member of ada's group reads her job's output on %s: %s (%v)", n.Name, r.Out, err)
	}
	for _, script := range []string{"cat /var/lib/migrate/jobs/" + j.id + "/io/stdout", "ls /run/migrate/jobs/" + j.id} {
		if out, err := runAs(c, n, bob, script); err == nil {
			c.t.Errorf("bob may %q on %s: %s", script, n.Name, out)
		}
	}
}

// On machines of their own users' jobs move without a user namespace: CRIU opens their
// files with all of root's rights.
func TestUsersJobsGetNoFileOfRoots(t *testing.T) {
	c := newCluster(t)
	for _, n := range c.Nodes() {
		c.sh(n, "mkdir -p /srv/ada/d /srv/ada/f/self && echo mine >/srv/ada/d/f && chmod 600 /srv/ada/d/f && ln -s /proc /srv/ada/p"+
			" && printf '#!/bin/sh\\ntouch /srv/closed/entered\\n' >/srv/ada/f/self/exe && chmod 755 /srv/ada/f/self/exe && chown -hR 1001:1001 /srv/ada"+
			" && mkdir -m 700 /srv/closed && echo root >/srv/closed/f && chmod 600 /srv/closed/f")
		defer c.sh(n, "rm -rf /srv/ada /srv/closed")
	}
	j := c.launch(c.A, ada, "-w", "/tmp", "--", "sh", "-c", "exec 3</srv/ada/d/f; while :; do echo held; sleep 0.2; done")
	holds := func(n *Node) {
		t.Helper()
		had := strings.Count(j.logs(n), "held\n")
		c.eventually(func() error {
			if now := strings.Count(j.logs(n), "held\n"); now < had+3 {
				return fmt.Errorf("the job has spoken %d times, before %d", now, had)
			}
			return nil
		})
	}
	holds(c.A)
	c.sh(c.B, "mv /srv/ada/d /srv/ada/d0 && ln -s /srv/closed /srv/ada/d")
	if r := c.migrate(c.A, root, "move", j.id, c.B.Name); r.Code != 3 || !strings.Contains(r.Err, "file-denied") || strings.Contains(r.Err, "root\n") {
		t.Errorf("a move to where the job would hold root's file: status %d, %s", r.Code, r.Err)
	}
	holds(c.A)
	c.sh(c.B, "rm /srv/ada/d && mv /srv/ada/d0 /srv/ada/d")
	j.move(c.A, c.B)
	holds(c.B)
	if got := c.must(c.B, ada, "exec", j.id, "cat", "/proc/1/fd/3"); got != "mine\n" {
		t.Errorf("the job holds %q", got)
	}
	c.must(c.B, root, "rm", "-f", j.id)
	r := c.migrate(c.B, ada, "run", "-w", "/", "--bind", "/srv/ada/f:/srv/ada/p", "--", "true")
	if out := c.sh(c.B, "ls /srv/closed"); out != "f\n" {
		t.Errorf("a link to /proc as the target of a bind has run ada's program as root: %s; status %d, %s", out, r.Code, r.Err)
	}
}

// A node that was broken into signs a checkpoint of ada's job that gives it more.
func TestUsersJobsKeepTheirCredentialsWhateverIsSigned(t *testing.T) {
	c := newCluster(t)
	const bin, saved, copied = "/usr/local/bin/tamper", "/var/saved-ada", "/var/saved-tampered"
	local := filepath.Join(t.TempDir(), "tamper")
	build(t, local, "./testdata/tamper")
	if err := c.B.Put(t.Context(), local, bin, 0o755); err != nil {
		t.Fatal(err)
	}
	j := c.oracle(c.B, ada, nil, "--mem", "8", "--tree", "2")
	c.must(c.B, root, "checkpoint", j.id, saved)
	defer c.sh(c.B, "rm -rf "+saved+" "+copied+" "+bin)
	for field, word := range map[string]string{
		"creds.uid": "has the uid 0, and 1001 is allowed", "creds.euid": "effective uid", "creds.fsuid": "uid for files", "creds.sgid": "saved gid",
		"creds.groups": "groups", "creds.cap_eff": "effective capabilities", "creds.cap_amb": "ambient capabilities", "creds.secbits": "securebits",
		"creds.no_new_privs": "no_new_privs",
	} {
		for _, forge := range []string{"", "forge"} {
			c.sh(c.B, fmt.Sprintf("rm -rf %s && cp -a %s %s && %s %s /etc/migrate/pki %s %s", copied, saved, copied, bin, copied, field, forge))
			if r := c.migrate(c.B, root, "restore", "-d", copied); r.Code == 0 || !strings.Contains(r.Err, word) {
				t.Errorf("%s %s: status %d, %s", field, forge, r.Code, r.Err)
			}
		}
	}
	c.must(c.B, root, "restore", "-d", saved)
	j.ticks(c.B, 10)
	c.owned(c.B, j, false)
	j.move(c.B, c.A)
	j.ticks(c.A, 10)
	c.owned(c.A, j, false)
	j.finish(c.A)
}
