package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// watch looks at the memory of both nodes until the function that it returns is called,
// which gives the peaks of the source's agent and of the target, or the move's error.
func (b *bench) watch(ctx context.Context, wanted bool) (stop func(error) (int64, sum, error), err error) {
	if !wanted {
		return func(err error) (int64, sum, error) { return 0, sum{}, err }, nil
	}
	const peakOfMemory = "5" // proc_pid_status(5): VmHWM becomes VmRSS
	if err := os.WriteFile(procPath(b.a.agent.Pid, "clear_refs"), []byte(peakOfMemory), 0); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var target sum
	var wg sync.WaitGroup
	wg.Go(func() { target = b.b.peak(ctx) })
	return func(err error) (int64, sum, error) {
		cancel()
		wg.Wait()
		source, unread := field(procPath(b.a.agent.Pid, "status"), "VmHWM:")
		return source, target, errors.Join(err, unread)
	}, nil
}

// sum is a node's memory at one moment, in bytes, in parts that share no page.
type sum struct{ agent, others, shared, files int64 }

func (s sum) total() int64 { return s.agent + s.others + s.shared + s.files }

func (s sum) String() string {
	mib := func(n int64) string { return inBytes.show(float64(n)) }
	return fmt.Sprintf("page store and images %s, shared %s, agent %s, shim and job %s", mib(s.files), mib(s.shared), mib(s.agent), mib(s.others))
}

const sampleEvery = 5 * time.Millisecond

// peak returns the largest sum until ctx ends.
func (n *node) peak(ctx context.Context) (peak sum) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		// What moves from the store to the job while we look is counted twice, not
		// missed: files come first.
		now := sum{files: blocksIn(n.run)}
		n.addProcesses(&now)
		if now.total() > peak.total() {
			peak = now
		}
		select {
		case <-ctx.Done():
			return peak
		case <-tick.C:
		}
	}
}

// addProcesses adds the agent and all processes beneath it. The agent and its children,
// the shims, map the page store, whose memory is that of a file.
func (n *node) addProcesses(s *sum) {
	agent, _ := residentOf(n.agent.Pid)
	s.agent = agent
	for _, shim := range children(n.agent.Pid) {
		own, _ := residentOf(shim)
		s.others += own
		s.addTree(children(shim))
	}
}

func (s *sum) addTree(pids []int) {
	for _, pid := range pids {
		own, shared := residentOf(pid)
		s.others += own
		s.shared += shared
		s.addTree(children(pid))
	}
}

// residentOf is what a process has in memory; nothing if it has just ended.
func residentOf(pid int) (own, shared int64) {
	text, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return 0, 0
	}
	anon, _ := fieldOf(string(text), "RssAnon:")
	file, _ := fieldOf(string(text), "RssFile:")
	shared, _ = fieldOf(string(text), "RssShmem:")
	return anon + file, shared
}

// children of all threads of a process, as far as they do not end meanwhile.
func children(pid int) []int {
	tasks, _ := os.ReadDir(procPath(pid, "task"))
	var pids []int
	for _, t := range tasks {
		text, _ := os.ReadFile(procPath(pid, "task", t.Name(), "children"))
		for _, f := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// blocksIn is the memory that files beneath a directory of a tmpfs take up.
func blocksIn(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // what is gone takes up nothing
		}
		if info, err := e.Info(); err == nil {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return n
}

func procPath(pid int, names ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, names...)...)
}

// field reads a size from a file of /proc whose lines are "Name:  number kB", in bytes.
func field(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, ok := fieldOf(string(text), name)
	if !ok {
		return 0, fmt.Errorf("%s does not tell %s", path, name)
	}
	return n, nil
}

func fieldOf(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		return kib << 10, err == nil
	}
	return 0, false
}
