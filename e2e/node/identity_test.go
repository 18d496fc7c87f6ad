package node

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/tamper"
)

// filtered starts a job of several threads, one of which has seccomp filters. Root's has
// groups, alice's a user namespace.
func filtered(c *cluster, n *node, user string) *job {
	c.t.Helper()
	args := []string{"setpriv", "--groups", "4,27", shared.migrate, "--socket", n.socket(), "run", "-d", "--", shared.helper, "filter"}
	if user != "0" {
		args = []string{"setpriv", "--reuid", user, "--regid", user, "--clear-groups", shared.migrate, "--socket", n.socket(), "run", "-d", "--user-ns", "-w", "/tmp", "--", shared.helper, "filter"}
	}
	j := &job{c.t, strings.TrimSpace(command(c.t, args[0], args[1:]...).want(c.t, 0).out)}
	j.numbers(n, 10)
	return j
}

var kindsOfJobs = map[string]string{"root's": "0", "in a user namespace": "12345"}

func TestMoveKeepsTheCredentialsOfThreads(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	for name, user := range kindsOfJobs {
		c.run(name, func(t *testing.T) {
			j := filtered(c, a, user)
			before := j.statuses(a)
			if !strings.Contains(before, "Seccomp_filters:\t2") {
				t.Errorf("no thread has filters: %s", before)
			}
			for _, way := range [][2]*node{{a, b}, {b, a}} {
				j.move(way[0], way[1])
				j.numbers(way[1], 20)
				if after := j.statuses(way[1]); after != before {
					t.Errorf("on %s: %s\nbefore: %s", way[1].name, after, before)
				}
			}
			j.remove(c)
		})
	}
}

// statuses are what the kernel tells of who the job's threads are, each once: a Go program
// may start more of them at any time.
func (j *job) statuses(n *node) string {
	j.t.Helper()
	seen := map[string]bool{}
	for _, p := range j.inspect(n).Pids {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.Host))
		if err != nil {
			j.t.Fatal(err)
		}
		for _, f := range files {
			who := ""
			for line := range strings.Lines(readFile(f)) {
				switch key, _, _ := strings.Cut(line, ":"); key {
				case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters":
					who += line
				}
			}
			seen[who] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), "\n")
}

// A node that was broken into signs what it likes. One change of each kind goes the whole
// way through a real restore; unit tests try thousands.
func TestRestoreRefusesASignedCheckpointWithOtherCredentials(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	for name, user := range kindsOfJobs {
		c.run(name, func(t *testing.T) {
			j := filtered(c, a, user)
			saved := filepath.Join(c.dir, j.id)
			a.migrate("checkpoint", j.id, saved).want(t, 0)
			images := filepath.Join(t.TempDir(), "images")
			c.must(os.Mkdir(images, 0o700))
			c.must(tamper.Images(saved, images))
			all, err := tamper.Mutations(images, rand.New(rand.NewPCG(1, 2)))
			c.must(err)
			if len(all) < 500 {
				t.Errorf("%d mutations", len(all))
			}
			for _, m := range tamper.OneOfEach(all) {
				copied := filepath.Join(c.dir, "tampered-"+j.id)
				c.must(os.CopyFS(copied, os.DirFS(saved)))
				c.must(tamper.Checkpoint(copied, a.pki(), m.Apply))
				r := b.migrate("restore", "-d", copied)
				if r.code == 0 || !strings.Contains(r.err, "threads") && !strings.Contains(r.err, "allowed") {
					t.Errorf("%v: %v", m, r)
				}
				if jobs := b.jobs(); len(jobs) != 0 {
					t.Fatalf("%v: something is on the node now: %+v", m, jobs)
				}
				c.must(os.RemoveAll(copied))
			}
			b.migrate("restore", "-d", saved).want(t, 0) // the original is as good as ever
			j.numbers(b, 10)
			j.remove(c)
		})
	}
}

// What CRIU makes of a job is looked at once more, as the kernel shows it, before any of it
// runs. The job on the source goes on.
func TestRestoreWithOtherCredentialsFromCRIUDoesNotRun(t *testing.T) {
	t.Parallel()
	var change func(fields ...string)
	c := newCluster(t, 2, func(c *cluster) { change = tampering(c.nodes[1]) })
	a, b := c.two()
	for name, user := range kindsOfJobs {
		c.run(name, func(t *testing.T) {
			j := filtered(c, a, user)
			words := map[string]string{
				"creds.euid": "effective uid", "creds.fsgid": "gid for files", "creds.groups": "groups", "creds.cap_inh": "inheritable capabilities",
				"creds.cap_bnd": "bounding capabilities", "creds.no_new_privs": "no_new_privs", "seccomp_filter": "seccomp",
			}
			if user != "0" {
				words["uid_map"] = "uid map" // an id more, which is the node's root
			}
			for field, word := range words {
				change(field)
				before := j.inspect(a).Init
				r := a.migrate("move", j.id, b.name)
				if r.code != 4 || !strings.Contains(r.err, word) || !strings.Contains(r.err, "is allowed") {
					t.Errorf("%s: %v", field, r)
				}
				if v := j.inspect(a); v.State != "running" || v.Init != before {
					t.Errorf("%s: the job is %+v", field, v)
				}
				j.numbers(a, 20)
				for _, v := range b.jobs() {
					if v.State == "running" {
						t.Errorf("%s: a second copy: %+v", field, v)
					}
				}
			}
			change()
			j.move(a, b)
			j.numbers(b, 20)
			j.remove(c)
		})
	}
}

// An agent may have been started with groups, which a restored job must not get.
func TestRunGivesNoneOfTheAgentsGroups(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, func(c *cluster) {
		for _, n := range c.nodes {
			n.cover = []string{`set -- setpriv --groups 4,27 -- "$@"`}
		}
	})
	a, b := c.two()
	if !strings.Contains(readFile(fmt.Sprintf("/proc/%d/status", a.agent.cmd.Process.Pid)), "Groups:\t4 27") {
		t.Fatal("the agent has no groups")
	}
	for _, flags := range [][]string{nil, {"--user-ns"}} {
		j := a.launch(append(flags, "--", shared.helper, "filter")...)
		j.numbers(a, 10)
		if was := j.statuses(a); strings.Contains(was, "Groups:\t4 27") {
			t.Errorf("the job has the groups of the agent: %s", was)
		}
		j.move(a, b)
		j.numbers(b, 20)
		if is := j.statuses(b); strings.Contains(is, "Groups:\t4 27") {
			t.Errorf("the job has the groups of the agent: %s", is)
		}
	}
}
