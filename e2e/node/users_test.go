package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// as is how a user of the node types a command.
func (n *node) as(uid string, args ...string) result {
	n.c.t.Helper()
	return command(n.c.t, "setpriv", append([]string{"--reuid", uid, "--regid", uid, "--clear-groups", shared.migrate, "--socket", n.socket()}, args...)...)
}

func TestUsersSeeAndTouchTheirOwnJobsOnly(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	const alice, bob = "12345", "12346"
	roots := a.oracle()
	r := a.as(alice, "run", "-d", "--user-ns", "-w", "/tmp", "--", shared.oracle, "--count", "--mem", "8").want(t, 0)
	j := &job{t, strings.TrimSpace(r.out)}
	j.ready(a)
	for _, from := range []*node{a, b} { // before and after the move
		for _, n := range c.nodes {
			if n == b && from == a {
				continue // it has not been there yet
			}
			n.as(bob, "ps", "-a").want(t, 0).lacks(t, j.id, roots.id)
			for _, verb := range [][]string{{"inspect"}, {"logs"}, {"kill"}, {"wait"}, {"rm", "-f"}, {"move"}, {"exec"}} {
				args := append(verb, j.id)
				switch verb[0] {
				case "move":
					args = append(args, b.name)
				case "exec":
					args = append(args, "true")
				}
				n.as(bob, args...).want(t, 1).says(t, "not your job")
			}
			n.as(alice, "ps", "-a").want(t, 0).lists(t, j.id).lacks(t, roots.id)
			if got := n.as(alice, "exec", j.id, "id", "-u").want(t, 0).out; got != alice+"\n" {
				t.Errorf("in the job its user is %q", got)
			}
		}
		if from == a {
			a.as(alice, "move", j.id, b.name).want(t, 0)
		}
	}
	j.runsOn(b)
	j.ticks(b, 20)
	status := b.as(alice, "exec", j.id, "cat", "/proc/1/status").want(t, 0).out
	if !strings.Contains(status, "NoNewPrivs:\t1") {
		t.Errorf("the job may gain privileges after the move: %s", status)
	}
	j.finish(b)
}

func TestBindIsWhatItsUserReachesOnTheTarget(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	const alice = 12345
	dir, victim := filepath.Join(c.dir, "alice", "d"), filepath.Join(c.dir, "closed", "deep")
	c.must(errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(victim, 0o755), os.Chmod(filepath.Dir(victim), 0o700)))
	c.must(errors.Join(os.Chown(dir, alice, alice), os.Chown(filepath.Dir(dir), alice, alice)))
	c.must(errors.Join(os.WriteFile(filepath.Join(dir, "here"), []byte("mine"), 0o644), os.WriteFile(filepath.Join(victim, "here"), []byte("secret"), 0o644)))
	j := &job{t, strings.TrimSpace(a.as("12345", "run", "-d", "--user-ns", "--bind", dir+":/mnt", "--bind", filepath.Join(dir, "here")+":/tmp/file:ro", "-w", "/tmp", "--", shared.oracle, "--count").want(t, 0).out)}
	j.ready(a)
	c.must(errors.Join(os.Rename(dir, dir+"0"), os.Symlink(victim, dir)))
	j.refused(a, b, "mount-missing")
	c.must(errors.Join(os.Remove(dir), os.Symlink(dir+"0", dir))) // a link that its user may follow
	a.as("12345", "move", j.id, b.name).want(t, 0)
	if got := b.as("12345", "exec", j.id, "cat", "/mnt/here", "/tmp/file").want(t, 0).out; got != "minemine" {
		t.Errorf("the job sees %q", got)
	}
	j.ticks(b, 20)
	j.finish(b)
}

// lacks wants standard output to hold none of these words.
func (r result) lacks(t *testing.T, words ...string) result {
	t.Helper()
	for _, w := range words {
		if strings.Contains(r.out, w) {
			t.Errorf("the output holds %q: %v", w, r)
		}
	}
	return r
}
