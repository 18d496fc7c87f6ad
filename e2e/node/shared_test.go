package node

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestSharedMemoryIsWholeAfterMoves(t *testing.T) {
	c := newCluster(t, 2)
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			here, there := c.two()
			j := here.oracleIn(flags, "--shared", "24", "--dirty", "30")
			for range 2 {
				j.move(here, there)
				here, there = there, here
				j.ticks(here, 20)
			}
			j.checksAll(here, "devshm", "segment", "memfd", "anon", "unlinked")
			j.finish(here)
		})
	}
}

func TestSharedMemoryIsSentWhileTheJobRuns(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	const size = 24 // MiB, five times, half of it random
	j := here.oracle("--shared", fmt.Sprint(size), "--dirty", "1")
	for range 2 {
		r := here.migrate("move", j.id, there.name, "--json", "--force").want(t, 0)
		events := decodeEvents(t, r.out)
		here, there = there, here
		if done := events[len(events)-1].Done; done == nil || done.Sent < 5*size<<20/2 {
			t.Fatalf("%v", r)
		}
		if n := whileFrozen(t, events); n > 16<<20 {
			t.Errorf("%d bytes crossed while the job was frozen", n)
		}
		j.ticks(here, 20)
	}
	j.checksAll(here, "devshm", "segment", "memfd", "anon", "unlinked")
	j.finish(here)
}

// whileFrozen is what crossed the wire between the freeze and the park, in bytes.
func whileFrozen(t *testing.T, events []event) int64 {
	t.Helper()
	var from, to int64 = -1, -1
	for _, e := range events {
		if e.Phase == "freeze" && from < 0 {
			from = e.Sent
		}
		if e.Phase == "park" && to < 0 {
			to = e.Sent
		}
	}
	if from < 0 || to < 0 {
		t.Fatalf("no freeze or no park among %d events", len(events))
	}
	return to - from
}

func TestTmpfsIsSentWhileTheJobRuns(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	const size = 64 << 20
	j := here.launch("-w", "/tmp", "--", "/bin/sh", "-c", fmt.Sprintf(
		`head -c %d /dev/urandom > /dev/shm/big; head -c %d /dev/urandom > /tmp/big; sha256sum /dev/shm/big /tmp/big > /tmp/sums; exec %s --count`, size, size, shared.oracle))
	j.ready(here)
	for range 2 {
		r := here.migrate("move", "--force", j.id, there.name, "--json").want(t, 0)
		events := decodeEvents(t, r.out)
		here, there = there, here
		if done := events[len(events)-1].Done; done == nil || done.Sent < 2*size {
			t.Fatalf("%v", r)
		}
		if n := whileFrozen(t, events); n > 8<<20 {
			t.Errorf("%d bytes crossed while the job was frozen", n)
		}
		j.ticks(here, 10)
		here.migrate("exec", j.id, "sha256sum", "-c", "--quiet", "/tmp/sums").want(t, 0)
	}
	mounts := here.migrate("exec", j.id, "grep", "-E", " /(dev/shm|tmp) ", "/proc/self/mountinfo").want(t, 0).out
	if n := strings.Count(mounts, " / /"); n != 2 || strings.Count(mounts, "nosuid,nodev") != 2 {
		t.Errorf("the job sees\n%s", mounts)
	}
	j.finish(here)
}

func TestTmpfsMayHaveALargeDeletedFile(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	const size = 100 << 20
	j := here.launch("-w", "/tmp", "--", "/bin/sh", "-c", fmt.Sprintf(
		`exec 3<>/dev/shm/x; rm /dev/shm/x; head -c %d /dev/urandom >&3; sha256sum /proc/self/fd/3 >sums; trap "sha256sum -c sums" USR1; echo ready; while :; do sleep 0.1; done`, size))
	j.ready(here)
	for i := range 2 {
		r := here.migrate("move", "--force", j.id, there.name, "--json").want(t, 0)
		here, there = there, here
		if n := whileFrozen(t, decodeEvents(t, r.out)); n > 8<<20 {
			t.Errorf("%d bytes crossed while the job was frozen", n)
		}
		here.migrate("kill", "-s", "USR1", j.id).want(t, 0)
		eventually(t, limit, func() error {
			if out := j.logs(here); strings.Count(out, ": OK") != i+1 {
				return fmt.Errorf("the file was found whole once only, or not at all: %q %q", out, j.stderr(here))
			}
			return nil
		})
	}
	here.migrate("rm", "-f", j.id).want(t, 0)
}

func TestTmpfsFilesOfEveryKindSurviveMoves(t *testing.T) {
	c := newCluster(t, 2)
	for _, dir := range []string{"/dev/shm", "/tmp"} {
		for name, flags := range map[string][]string{"": nil, " with a user namespace": {"--user-ns"}} {
			c.run(dir+name, func(t *testing.T) {
				here, there := c.two()
				j := here.launch(append(flags, "--", shared.helper, "odd", dir)...)
				for i := range 4 {
					eventually(t, limit, func() error {
						if got := j.lastNumber(here); got != i+1 {
							return fmt.Errorf("it has looked %d times, want %d; stderr: %s", got, i+1, j.stderr(here))
						}
						return nil
					})
					if i == 3 {
						break
					}
					j.move(here, there)
					here, there = there, here
					here.migrate("kill", "-s", "USR1", j.id).want(t, 0)
				}
				here.migrate("rm", "-f", j.id).want(t, 0)
			})
		}
	}
}

// shares is what the job's processes share by copy-on-write, in bytes.
func (j *job) shares(n *node) (sum int64) {
	j.t.Helper()
	for _, p := range j.inspect(n).Pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.Host))
		if err != nil {
			continue // it has just ended
		}
		field := func(name string) (kib int64) {
			_, text, _ := strings.Cut(string(data), "\n"+name+":")
			_, _ = fmt.Sscan(text, &kib)
			return kib << 10
		}
		sum += field("Anonymous") - field("Pss_Anon")
	}
	return sum
}

func TestMoveEagerKeepsCopyOnWriteSharing(t *testing.T) {
	c := newCluster(t, 2)
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			here, there := c.two()
			j := here.oracleIn(flags, "--mem", "32", "--dirty", "10", "--tree", "3", "--shared", "4")
			had := j.shares(here)
			if had < 1<<20 {
				t.Fatalf("the job shares %d bytes", had)
			}
			for range 2 {
				r := here.migrate("move", "--json", "--verify", "--eager", "--force", j.id, there.name)
				if r.code != 0 {
					t.Fatalf("%v; its stderr: %s", r, j.stderr(here))
				}
				events := decodeEvents(t, r.out)
				here, there = there, here
				j.ticks(here, 20)
				if n := whileFrozen(t, events); n > 24<<20 {
					t.Errorf("%d bytes crossed while the job was frozen", n)
				}
				if now := j.shares(here); now < had/2 {
					t.Errorf("the job shares %d bytes, and it was %d", now, had)
				}
			}
			move := j.move(here, there).Move
			if r := here.migrate("inspect", "--json", move).want(t, 0); !strings.Contains(r.out, `"copy_on_write":`) {
				t.Errorf("what is lost is not told: %s", r.out)
			}
			if now := j.shares(there); now > had/2 {
				t.Errorf("after a move without the flag %d bytes are shared, the same as before: %d", now, had)
			}
			j.checksAll(there, "mem", "cow", "shared", "devshm", "segment", "memfd", "anon", "unlinked")
			j.finish(there)
		})
	}
}
