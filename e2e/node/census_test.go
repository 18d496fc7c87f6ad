package node

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// census is all that a node has of jobs and moves, one thing per line, with the
// number of things that read the same. Numbers that differ from one time to the
// next, and the job's id, are left out, so that two of them can be compared.
func (n *node) census(j *job) []string {
	n.c.t.Helper()
	var all []string
	for _, pid := range n.processes() {
		all = append(all, "process "+processLine(pid))
	}
	for _, dir := range n.cgroups() {
		all = append(all, "cgroup "+dir)
	}
	all = append(all, n.children()...)
	all = append(all, n.network()...)
	all = append(all, n.mounts()...)
	all = append(all, n.open()...)
	all = append(all, n.files()...)
	for i := range all {
		all[i] = strings.ReplaceAll(strings.ReplaceAll(all[i], j.id, "JOB"), j.id[1:], "OB")
	}
	return counted(all)
}

// children are the agent's; CRIU is one while it dumps. A shim that it started is
// among them, and has been found by its name.
func (n *node) children() []string {
	var all []string
	for _, pid := range childrenOf(n.agent.cmd.Process.Pid) {
		if line := processLine(pid); !strings.Contains(line, n.dir) {
			all = append(all, "child of the agent: "+line)
		}
	}
	return all
}

// childrenOf lists the children of all threads of a process.
func childrenOf(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, f := range files {
		data, _ := os.ReadFile(f) // a thread that is gone has none
		for _, word := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

func (n *node) network() []string {
	var all []string
	for line := range strings.Lines(n.in("ip", "-o", "link", "show").out) {
		if f := strings.Fields(line); len(f) > 1 {
			all = append(all, "interface "+strings.TrimSuffix(f[1], ":"))
		}
	}
	for line := range strings.Lines(n.in("cat", "/proc/net/unix").out) {
		if f := strings.Fields(line); len(f) > 7 && f[3] == "00010000" { // it listens
			all = append(all, "socket "+f[7])
		}
	}
	return all
}

// mounts are those that the agent sees, by their places, and namespaces that a
// mount keeps alive.
func (n *node) mounts() []string {
	var all []string
	for line := range strings.Lines(readFile(fmt.Sprintf("/proc/%d/mountinfo", n.agent.cmd.Process.Pid))) {
		if f := strings.Fields(line); len(f) > 4 && (strings.HasPrefix(f[4], n.dir) || strings.Contains(line, " nsfs ") && !strings.HasPrefix(f[4], "/run/netns/")) {
			all = append(all, "mount "+f[4])
		}
	}
	return all
}

// open is what the agent holds open, but for its connections, and its hold on
// shims, which depends on whether it has started them.
func (n *node) open() []string {
	dir := fmt.Sprintf("/proc/%d/fd", n.agent.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	n.c.must(err)
	var all []string
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && !strings.HasPrefix(to, "socket:") && !strings.HasPrefix(to, "pipe:") && to != "anon_inode:[pidfd]" {
			all = append(all, "open "+to)
		}
	}
	return all
}

// files are those beneath the node's directories but what remembers moves, and
// the logs that are kept of what failed.
func (n *node) files() []string {
	var all []string
	for _, root := range []string{n.run(), n.memoryDir(), n.state()} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // it vanished, or there is no such directory
			}
			if slices.Contains([]string{"moves", "records", "criu-logs"}, strings.TrimPrefix(path, n.state()+"/")) {
				return fs.SkipDir
			}
			if filepath.Base(path) != "epochs.json" {
				all = append(all, "file "+path)
			}
			return nil
		})
		n.c.must(err)
	}
	return all
}

func counted(all []string) []string {
	slices.Sort(all)
	var out []string
	for i := 0; i < len(all); {
		k := i
		for k < len(all) && all[k] == all[i] {
			k++
		}
		out = append(out, fmt.Sprintf("%d × %s", k-i, all[i]))
		i = k
	}
	return out
}

// censuses is what each node has when the job is on a given one and nothing else
// is going on.
type censuses map[*node]map[*node][]string // where the job is → node → census

// take remembers the census with the job on this node.
func (cs censuses) take(j *job, on *node) {
	j.t.Helper()
	cs[on] = map[*node][]string{}
	for _, n := range on.c.nodes {
		eventually(j.t, limit, func() error { // until memory is in place and sockets are closed
			before := n.census(j)
			//house:allow time.Sleep: two looks are some time apart
			time.Sleep(50 * time.Millisecond)
			cs[on][n] = n.census(j)
			if n != on {
				if err := n.clean(j); err != nil {
					return err
				}
			}
			return difference(before, cs[on][n])
		})
	}
}

// clean wants nothing of the job on a node that it is not on, but for its record
// and its shim's last words.
func (n *node) clean(j *job) error {
	left := slices.DeleteFunc(n.leftovers(), func(l string) bool {
		return strings.HasPrefix(l, fmt.Sprintf("process %d:", n.agent.cmd.Process.Pid))
	})
	for _, name := range []string{"io", "stdout", "stderr"} {
		path := filepath.Join(n.state(), "jobs", j.id, name)
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("of the job that is not here, %s has %v", n.name, left)
	}
	return nil
}

// settled wants the last record of every move to be one that ends it.
func (n *node) settled() error {
	journals, err := filepath.Glob(filepath.Join(n.state(), "moves", "*.journal"))
	n.c.must(err)
	for _, path := range journals {
		lines := strings.Split(strings.TrimSpace(readFile(path)), "\n")
		last := lines[len(lines)-1]
		ended := slices.ContainsFunc([]string{"released", "aborted", "done", "dropped"}, func(state string) bool {
			return strings.Contains(last, `"state":"`+state+`"`)
		})
		if !ended {
			return fmt.Errorf("a move is not finished on %s: %s", n.name, last)
		}
	}
	return nil
}

// compare wants every node to have what it had when the job was there before.
func (cs censuses) compare(j *job, on *node) {
	j.t.Helper()
	for _, n := range on.c.nodes {
		eventually(j.t, limit, func() error {
			if err := n.settled(); err != nil {
				return err
			}
			if err := difference(cs[on][n], n.census(j)); err != nil {
				return fmt.Errorf("%s, with the job on %s, is not as it was: %w", n.name, on.name, err)
			}
			return nil
		})
	}
}

func difference(before, now []string) error {
	var lines []string
	for _, l := range before {
		if !slices.Contains(now, l) {
			lines = append(lines, "before: "+l)
		}
	}
	for _, l := range now {
		if !slices.Contains(before, l) {
			lines = append(lines, "now:    "+l)
		}
	}
	if lines == nil {
		return nil
	}
	return fmt.Errorf("\n%s", strings.Join(lines, "\n"))
}
