package node

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// asMember is how a user types a command who is in these groups besides his own.
func (n *node) asMember(uid, groups string, args ...string) result {
	n.c.t.Helper()
	return command(n.c.t, "setpriv", append([]string{"--reuid", uid, "--regid", uid, "--groups", groups, shared.migrate, "--socket", n.socket()}, args...)...)
}

// A file that is closed to a group, and open to all others, is the class of
// CVE-2018-7169.
func TestUsernsKeepsFilesClosedToAGroup(t *testing.T) {
	t.Parallel()
	const alice, group = "12345", "23456"
	c := newCluster(t, 2)
	a, b := c.two()
	secret := filepath.Join(c.dir, "secret")
	c.must(errors.Join(os.WriteFile(secret, []byte("secret"), 0o604), os.Chown(secret, 0, 23456), os.Chmod(secret, 0o604)))
	r := a.asMember(alice, group, "run", "-d", "--user-ns", "-w", "/tmp", "--", shared.oracle, "--count").want(t, 0)
	j := &job{t, strings.TrimSpace(r.out)}
	j.ready(a)
	closed := func(n *node) {
		t.Helper()
		for _, try := range [][]string{
			{"cat", secret}, {"setpriv", "--clear-groups", "cat", secret}, {"setpriv", "--groups", alice, "cat", secret},
			{"unshare", "--user", "cat", secret}, {"unshare", "--user", "--map-root-user", "cat", secret},
			{"unshare", "--user", "--map-root-user", "setpriv", "--clear-groups", "cat", secret},
		} {
			got := n.asMember(alice, group, append([]string{"exec", j.id}, try...)...)
			if got.code == 0 || strings.Contains(got.out, "secret") {
				t.Errorf("on %s: %v", n.name, got)
			}
		}
		status := n.asMember(alice, group, "exec", j.id, "cat", "/proc/1/status").want(t, 0).out
		for _, want := range []string{"Groups:\t" + group + " \n", "NoNewPrivs:\t1\n", "CapPrm:\t0000000000000000\n"} {
			if !strings.Contains(status, want) {
				t.Errorf("on %s %q is missing in\n%s", n.name, want, status)
			}
		}
		if bound := field(status, "CapBnd"); !strings.HasSuffix(bound, "bf") { // all but CAP_SETGID, 1<<6
			t.Errorf("on %s the job's bounding set is %s", n.name, bound)
		}
	}
	closed(a)
	a.asMember(alice, group, "move", j.id, b.name).want(t, 0)
	j.runsOn(b)
	closed(b)
	b.asMember(alice, group, "move", j.id, a.name).want(t, 0)
	closed(a)
	j.ticks(a, 20)
	j.finish(a)
}

// helperOf starts a user's job that plays a role of the helper.
func (n *node) helperOf(uid string, role ...string) *job {
	n.c.t.Helper()
	r := n.as(uid, append([]string{"run", "-d", "--user-ns", "-w", "/tmp", "--", shared.helper}, role...)...).want(n.c.t, 0)
	j := &job{n.c.t, strings.TrimSpace(r.out)}
	j.numbers(n, 5)
	return j
}

func TestKeyringOfAJobIsItsOwnAndNotLostSilently(t *testing.T) {
	t.Parallel()
	const alice, bob = "12345", "12346"
	c := newCluster(t, 2)
	a, b := c.two()
	first, second, his := a.helperOf(alice, "key", "first"), a.helperOf(alice, "late-key", "second"), a.helperOf(bob, "late-key", "his")
	alone := func(n *node, j *job, uid string, names ...string) {
		t.Helper()
		for _, name := range names {
			n.as(uid, "exec", j.id, shared.helper, "find-key", name).want(t, 33).says(t, "required key not available")
		}
	}
	alone(a, first, alice, "first", "second") // a visitor has a keyring of its own
	alone(a, second, alice, "first")
	alone(a, his, bob, "first")
	first.refused(a, b, "keys", "keyctl clear @s")
	for j, uid := range map[*job]string{second: alice, his: bob} {
		j.move(a, b)
		b.as(uid, "kill", "-s", "USR1", j.id).want(t, 0)
		eventually(t, limit, func() error {
			if out := b.as(uid, "logs", j.id).want(t, 0).out; !strings.Contains(out, "HELPER HAS KEY") {
				return errors.New("it has no key yet")
			}
			return nil
		})
	}
	alone(b, his, bob, "second", "his")
	alone(b, second, alice, "his")
	for _, j := range []*job{second, his} { // each after the move in a keyring of its own
		b.migrate("move", j.id, a.name).want(t, 3).says(t, "keys", "keyctl clear @s", b.name)
	}
	for _, j := range []*job{first, second, his} {
		j.remove(c)
	}
}

func TestRunKillsNoProcessThatAUserNames(t *testing.T) {
	t.Parallel()
	const alice = "13131" // whose jobs are all of this test
	c := newCluster(t, 1)
	a := c.nodes[0]
	dir := filepath.Join(c.dir, "alice")
	out := filepath.Join(dir, "out")
	c.must(errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(out, nil, 0o644), os.Chown(dir, 13131, 13131), os.Chown(out, 13131, 13131)))
	victim := exec.Command("sleep", "1000")
	c.must(victim.Start())
	attacker := exec.Command(shared.helper, "attack", out, strconv.Itoa(victim.Process.Pid))
	attacker.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 13131, Gid: 13131}}
	attacker.Stderr = os.Stderr
	says, err := attacker.StdoutPipe()
	c.must(err)
	c.must(attacker.Start())
	lines := bufio.NewScanner(says)
	if !lines.Scan() || lines.Text() != "HELPER HOLDS" {
		t.Fatalf("the attacker says %q", lines.Text())
	}
	r := a.as(alice, "run", "-d", "-w", "/", "--bind", dir+":/tmp/d", "-o", "/tmp/d/out", "--", "sleep", "1000").want(t, 0)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
	}
	if err := attacker.Wait(); err != nil || len(said) != 1 || said[0] != "HELPER HAS TRIED" {
		t.Errorf("the attacker says %q, %v", said, err)
	}
	_ = victim.Process.Signal(syscall.SIGTERM) // which is behind whatever was sent before
	_ = victim.Wait()
	if ws := victim.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGTERM {
		t.Errorf("the victim has ended with %v", ws)
	}
	a.as(alice, "rm", "-f", strings.TrimSpace(r.out)).want(t, 0)
}

func TestExecGivesNoMoreThanTheJobHas(t *testing.T) {
	t.Parallel()
	const alice, group, lost = "12345", "23456", "23457"
	c := newCluster(t, 2)
	a, b := c.two()
	run := func(n *node, flags ...string) *job {
		args := append([]string{"run", "-d", "-w", "/tmp", "--ulimit", "nofile=50:60", "--ulimit", "core=0:0"}, flags...)
		return &job{t, strings.TrimSpace(n.asMember(alice, group+","+lost, append(args, "--", shared.oracle, "--count")...).want(t, 0).out)}
	}
	look := func(n *node, j *job, groups string) {
		t.Helper()
		got := n.asMember(alice, groups, "exec", j.id, "sh", "-c", "ulimit -Hn; ulimit -Sn; ulimit -Hc; ulimit -Sn 61 2>/dev/null && echo raised; id -G").want(t, 0).out
		if want := "60\n50\n0\n" + strings.TrimSpace(alice+" "+strings.ReplaceAll(groups, ",", " ")) + "\n"; got != want {
			t.Errorf("on %s exec has %q, want %q", n.name, got, want)
		}
	}
	plain, mapped := run(a), run(a, "--user-ns")
	for _, j := range []*job{plain, mapped} {
		j.ready(a)
		look(a, j, group+","+lost)
		look(a, j, group)
		r := command(t, "setpriv", "--reuid", alice, "--regid", "9999", "--groups", group, shared.migrate, "--socket", a.socket(), "exec", j.id, "true").want(t, 1)
		r.says(t, "primary group "+alice, "not in any more", "nothing was done")
		if got := a.migrate("exec", j.id, "id", "-G").want(t, 0).out; got != strings.Join([]string{alice, group, lost}, " ")+"\n" {
			t.Errorf("root's exec has the groups %q", got)
		}
	}
	mapped.move(a, b)
	look(b, mapped, group)
	look(a, mapped, group) // by way of the other node
	plain.remove(c)
	mapped.finish(b)
}

func field(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
