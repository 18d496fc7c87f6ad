package node

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

// cutJob is a job that is ended for what it prints.
func (n *node) cutJob(uid, limit string, script string) *job {
	n.c.t.Helper()
	args := []string{"run", "-d", "-w", "/"}
	if limit != "" {
		args = append(args, "--output-limit", limit)
	}
	args = append(args, "--", "/bin/bash", "-c", script)
	return &job{n.c.t, strings.TrimSpace(n.as(uid, args...).want(n.c.t, 0).out)}
}

// tookRoom fails if a job that is over takes more than its limit.
func (j *job) tookRoom(n *node, limit int64) {
	j.t.Helper()
	var sum int64
	for _, name := range []string{"stdout", "stderr"} {
		info, err := os.Stat(filepath.Join(n.state(), "jobs", j.id, "io", name))
		if err != nil {
			j.t.Fatal(err)
		}
		sum += info.Size()
	}
	if sum > limit {
		j.t.Errorf("%d bytes of output are kept, the limit is %d", sum, limit)
	}
}

func TestLogsOverTheirLimitEndTheJob(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	a := c.nodes[0]
	const alice, words = "12345", "its output limit of 1.0 MiB is reached"
	for name, script := range map[string]string{
		"appends":              "exec cat /dev/zero",
		"to stderr":            "exec cat /dev/zero >&2",
		"to both":              "cat /dev/zero >&2 & exec cat /dev/zero",
		"by a child":           "setsid cat /dev/zero & sleep 1000",
		"makes a hole":         "truncate -s 1T /dev/job/stdout; exec sleep 1000",
		"takes room ahead":     "fallocate -l 64M /dev/job/stdout; exec sleep 1000",
		"takes room unseen":    "fallocate -n -l 64M /dev/job/stdout; exec sleep 1000",
		"rewrites from within": "exec dd if=/dev/zero of=/dev/job/stdout bs=64K seek=100 status=none",
		"hears no signal":      "trap '' XFSZ TERM INT; exec cat /dev/zero",
		"calls it a success":   "head -c 3000000 /dev/zero; exit 0",
	} {
		c.run(name, func(t *testing.T) {
			j := a.cutJob(alice, "1M", script)
			a.as(alice, "wait", j.id).want(t, 153).says(t, words, "--output-limit")
			a.as(alice, "inspect", j.id).want(t, 0).lists(t, words)
			a.as(alice, "ps", "-a").want(t, 0).lists(t, "exited (output limit)")
			j.tookRoom(a, 1<<20)
		})
	}
	c.run("in the foreground", func(t *testing.T) {
		a.as(alice, "run", "-w", "/", "--output-limit", "100K", "--", "/bin/cat", "/dev/zero").want(t, 153).says(t, "its output limit of 100.0 KiB is reached")
	})
	c.run("handles the signal", func(t *testing.T) {
		j := a.cutJob(alice, "1M", `trap "exit 7" XFSZ; cat /dev/zero & while :; do sleep 0.02; done`)
		a.as(alice, "wait", j.id).want(t, 7).says(t, words)
		j.tookRoom(a, 1<<20)
	})
	c.run("rewrites within its limit", func(t *testing.T) {
		j := a.cutJob(alice, "1M", "for i in {1..40}; do head -c 100000 /dev/zero > /dev/job/stdout; done; exit 9")
		a.as(alice, "wait", j.id).want(t, 9).lacks(t, words)
	})
	c.run("prints into a file of its own", func(t *testing.T) {
		file := filepath.Join(c.dir, "out")
		a.migrate("run", "--output-limit", "1M", "-o", file, "--", "/bin/head", "-c", "5000000", "/dev/zero").want(t, 0)
		if info, err := os.Stat(file); err != nil || info.Size() != 5000000 {
			t.Errorf("%v, %v", info, err)
		}
	})
	c.run("in a user namespace", func(t *testing.T) {
		a.as(alice, "run", "--user-ns", "-w", "/", "--output-limit", "1M", "--", "/bin/cat", "/dev/zero").want(t, 153).says(t, words)
	})
}

// The limit is the job's, and the shim's to hold, on whatever node.
func TestLogsLimitMovesWithTheJob(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	const flood = `trap "cat /dev/zero" USR1; echo ready; while :; do sleep 0.02; done`
	j := a.launch("--output-limit", "1M", "-w", "/", "--", "/bin/bash", "-c", flood)
	j.ready(a)
	j.move(a, b)
	if v := b.migrate("inspect", j.id).want(t, 0); !strings.Contains(v.out, "at most 1.0 MiB") {
		t.Errorf("the target does not know the limit: %v", v)
	}
	b.migrate("kill", "-s", "USR1", j.id).want(t, 0)
	b.kill()
	b.start()
	for _, n := range c.nodes {
		n.migrate("wait", j.id).want(t, 153).says(t, "its output limit of 1.0 MiB is reached")
	}
	j.tookRoom(b, 1<<20)

	saved := a.launch("--output-limit", "1M", "-w", "/", "--", "/bin/bash", "-c", flood)
	saved.ready(a)
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", saved.id, dir).want(t, 0)
	b.migrate("restore", "-d", dir).want(t, 0)
	b.migrate("kill", "-s", "USR1", saved.id).want(t, 0)
	b.migrate("wait", saved.id).want(t, 153)
}

// One user's output does not keep others from starting jobs, however full the disk is.
func TestLogsThatFillTheDiskEndTheJobOfTheirUser(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(c *cluster) {
		n := c.nodes[0]
		n.cover = []string{"mount -t tmpfs -o mode=755,size=64m none " + n.state()}
	})
	a := c.nodes[0]
	const alice, bob = "12345", "12346"
	small := &job{t, strings.TrimSpace(a.as(bob, "run", "-d", "-w", "/", "--", "/bin/sh", "-c", "while echo tick; do sleep 0.02; done").want(t, 0).out)}
	for name, script := range map[string]string{
		"appends":          "while :; do cat /dev/zero; done 2>&-",
		"takes room ahead": "fallocate -l 60M /dev/job/stdout; while :; do cat /dev/zero; done 2>&-",
	} {
		c.run(name, func(t *testing.T) {
			j := a.cutJob(alice, "", script)
			for range 5 { // whether the disk is full or not
				a.as(bob, "run", "-w", "/", "--", "/bin/true").want(t, 0)
			}
			a.as(alice, "wait", j.id).want(t, 153).says(t, "fills the disk")
			a.as(bob, "run", "-w", "/", "--", "/bin/echo", "hello").want(t, 0).lists(t, "hello")
			a.as(alice, "run", "-w", "/", "--", "/bin/true").want(t, 1).says(t, "is kept", "migrate rm")
			a.as(alice, "rm", j.id).want(t, 0)
			a.as(alice, "run", "-w", "/", "--", "/bin/true").want(t, 0)
		})
	}
	if v := small.inspect(a); v.State != "running" {
		t.Errorf("another user's job, which prints little, is %s", v.State)
	}
	a.as(bob, "kill", "-s", "KILL", small.id).want(t, 0)
	a.as(bob, "wait", small.id).want(t, 137)
}

// dialAs connects to the agent as a user, whom the kernel notes.
func (n *node) dialAs(uid int) net.Conn {
	n.c.t.Helper()
	var conn net.Conn
	n.c.must(osthread.Throwaway(func() (err error) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			return errno
		}
		conn, err = net.Dial("unix", n.socket())
		return err
	}))
	n.c.t.Cleanup(func() { conn.Close() })
	return conn
}

// memory is what the agent holds, in bytes.
func (n *node) memory() int64 {
	n.c.t.Helper()
	f := strings.Fields(readFile(fmt.Sprintf("/proc/%d/statm", n.agent.cmd.Process.Pid)))
	pages, err := strconv.ParseInt(f[1], 10, 64)
	n.c.must(err)
	return pages * int64(os.Getpagesize())
}

func TestAgentBoundsTheMemoryOfUnfinishedRequests(t *testing.T) {
	c := newCluster(t, 1)
	a := c.nodes[0]
	const alice, many, size = 12345, 200, 8<<20 - 100
	for name, head := range map[string]string{
		"8 MiB":   fmt.Sprintf("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size+1),
		"1 MiB":   fmt.Sprintf("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 1<<20),
		"chunked": fmt.Sprintf("POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", size+1),
		"signals": fmt.Sprintf("POST /v1/jobs/x/signal HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size+1),
		"heads":   "GET /v1/jobs HTTP/1.1\r\nHost: a\r\nX: ",
	} {
		c.run(name, func(t *testing.T) {
			before := a.memory()
			body := []byte(`{"spec":{"args":["` + strings.Repeat("x", 1<<20-100))
			var senders sync.WaitGroup
			for range many {
				conn := a.dialAs(alice)
				senders.Go(func() {
					_ = conn.SetDeadline(time.Now().Add(limit))
					_, err := io.WriteString(conn, head)
					for sent := 0; err == nil && sent+len(body) < size; sent += len(body) {
						_, err = conn.Write(body)
						if name == "1 MiB" {
							break // the rest never comes
						}
					}
				})
			}
			senders.Wait() // the agent has taken all, or hung up
			if took := a.memory() - before; took > 128<<20 {
				t.Errorf("%d requests that are not finished take %d MiB of the agent's memory", many, took>>20)
			}
			a.as("12346", "ps").want(t, 0)
			a.migrate("run", "--", "/bin/true").want(t, 0)
		})
	}
}
