package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The end of a cluster, in this order; each step runs whatever the one before
// it found.

func (c *cluster) reportFailure() {
	if c.t.Failed() {
		c.report()
	}
}

// removeJobs has each agent remove what is on its node. An agent that a test
// left dead is started for that.
func (c *cluster) removeJobs() {
	for _, n := range c.nodes {
		if n.agent == nil {
			continue
		}
		select {
		case <-n.agent.ended:
			n.start()
		default:
		}
	}
	for _, n := range c.nodes {
		for _, v := range n.jobs() {
			if v.State == "moved" {
				continue
			}
			if r := n.migrate("rm", "-f", v.ID); r.code != 0 {
				c.t.Errorf("clean-up: %v", r)
			}
		}
	}
}

// stop ends the agents in good order.
func (c *cluster) stop() {
	for _, n := range c.nodes {
		if n.agent == nil {
			continue
		}
		_ = n.agent.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-n.agent.ended:
			if n.agent.outcome.code != 0 {
				c.t.Errorf("the agent of %s: %v\n%s", n.name, n.agent.outcome, clip(readFile(n.logPath())))
			}
		case <-time.After(15 * time.Second):
			c.t.Errorf("the agent of %s does not end on SIGTERM", n.name)
			n.kill()
		}
	}
}

// search fails the test if anything is left.
func (c *cluster) search() {
	failed, found := c.t.Failed(), false
	for _, n := range c.nodes {
		for _, l := range n.leftovers() {
			found = true
			c.t.Errorf("left behind: %s", l)
		}
	}
	if found && !failed {
		c.report()
	}
}

// scrub removes what is left, so that it harms no other test, and the nodes.
func (c *cluster) scrub() {
	open.Lock()
	defer open.Unlock()
	delete(open.clusters, c)
	c.scrubNodes()
	if !c.t.Failed() {
		c.must(os.RemoveAll(c.dir))
	}
}

func (c *cluster) scrubNodes() {
	for _, n := range c.nodes {
		n.scrub()
	}
}

// leftovers lists what a node should not have when all its jobs are removed and
// its agent has ended.
func (n *node) leftovers() []string {
	var left []string
	for _, pid := range n.processes() {
		left = append(left, fmt.Sprintf("process %d: %s", pid, processLine(pid)))
	}
	for _, dir := range n.cgroups() {
		left = append(left, fmt.Sprintf("cgroup %s, %s", dir, strings.TrimSpace(readFile(filepath.Join(dir, "freezer.state")))))
	}
	for _, dir := range []string{filepath.Join(n.run(), "jobs"), filepath.Join(n.state(), "incoming"), filepath.Join(n.memoryDir(), "moves")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			left = append(left, err.Error())
		}
		for _, e := range entries {
			left = append(left, filepath.Join(dir, e.Name()))
		}
	}
	links := command(n.c.t, "ip", "-n", n.netns, "-o", "link", "show", "type", "veth").out
	for line := range strings.Lines(links) {
		if strings.Contains(line, ": mg") {
			left = append(left, "interface "+line)
		}
	}
	for line := range strings.Lines(readFile("/proc/self/mountinfo")) {
		if strings.Contains(line, n.dir+"/") {
			left = append(left, "mount "+line)
		}
	}
	return left
}

// memoryDir is where an agent whose run directory is on a disk keeps images and
// pages; agent.Config documents the name.
func (n *node) memoryDir() string {
	sum := sha256.Sum256([]byte(n.run()))
	return "/dev/shm/migrate-" + hex.EncodeToString(sum[:6])
}

// processes are those whose cgroup or command line has the node's name or
// directory in it.
func (n *node) processes() []int {
	entries, err := os.ReadDir("/proc")
	n.c.must(err)
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		data, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		if strings.Contains(string(data), "migrate-"+n.name+"-") || strings.Contains(processLine(pid), n.dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func processLine(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.ReplaceAll(string(data), "\x00", " ")
}

// cgroups are those of the node's jobs, in every hierarchy, deepest first.
func (n *node) cgroups() []string {
	var dirs []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "migrate-"+n.name+"-") {
			dirs = append([]string{path}, dirs...)
		}
		return nil // a group that vanished meanwhile is none of ours
	})
	n.c.must(err)
	return dirs
}

// thawAll ends every freeze of a job, also those of other programs.
func (n *node) thawAll() {
	for _, job := range n.cgroups() {
		for _, dir := range []string{job, filepath.Join(job, "held")} {
			_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
			_ = os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)
		}
	}
}

// scrub removes everything, whatever state it is in.
func (n *node) scrub() {
	for end := time.Now().Add(10 * time.Second); len(n.processes()) > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, pid := range n.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		n.thawAll()
	}
	for _, dir := range n.cgroups() {
		_ = syscall.Rmdir(filepath.Join(dir, "held"))
		_ = syscall.Rmdir(dir)
	}
	if err := os.RemoveAll(n.memoryDir()); err != nil {
		n.c.t.Errorf("clean-up: %v", err)
	}
	n.c.ip("netns", "delete", n.netns)
	if left := append(n.cgroups(), fmt.Sprint(n.processes())); len(left) != 1 || left[0] != "[]" {
		n.c.t.Errorf("clean-up cannot remove %v", left)
	}
}
