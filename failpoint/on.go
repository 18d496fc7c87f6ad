//go:build faults

package failpoint

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Point is a moment at which a test may stop or end this process.
func Point(name ...string) { _ = Fail(name...) } // a plan that asks for an error here asks in vain

// Fail is a moment at which, besides, a test may have an operation go wrong.
func Fail(name ...string) error {
	plan := os.Getenv("MIGRATE_FAULTS")
	if plan == "" {
		return nil
	}
	for i := range name {
		name[i] = filepath.Base(name[i])
	}
	point := strings.Join(name, ".")
	for _, line := range lines(plan) {
		if action, due := count.due(plan, line, point); due {
			return act(action, plan, line, point)
		}
	}
	return nil
}

func lines(plan string) []string {
	data, err := os.ReadFile(plan)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// counter is how often each line of the plan was met.
type counter struct {
	mu  sync.Mutex
	of  time.Time // the plan's
	met map[string]int
}

var count counter

// begin forgets what was counted for another plan.
func (c *counter) begin(plan string) {
	info, err := os.Stat(plan)
	if err == nil && info.ModTime().Equal(c.of) {
		return
	}
	c.met = map[string]int{}
	if err == nil {
		c.of = info.ModTime()
	}
}

// due tells whether it is the turn of this line, and what it asks for.
func (c *counter) due(plan, line, point string) (action string, due bool) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return "", false
	}
	if ok, err := path.Match(f[0], point); err != nil || !ok {
		return "", false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(f[1], "+"))
	if err != nil {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin(plan)
	c.met[line]++
	return f[2], c.met[line] == n || c.met[line] > n && strings.HasSuffix(f[1], "+")
}

func act(action, plan, line, point string) error {
	note(plan+".hits", fmt.Sprintf("%s %s %d\n", point, action, os.Getpid()))
	switch action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "pause":
		for slices.Contains(lines(plan), line) {
			time.Sleep(time.Millisecond)
		}
	case "eio":
		return fmt.Errorf("injected at %s: %w", point, syscall.EIO)
	case "enospc":
		return fmt.Errorf("injected at %s: %w", point, syscall.ENOSPC)
	}
	return nil
}

// note is best effort: a test that misses a note fails.
func note(path, text string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	_, _ = f.WriteString(text)
	_ = f.Close()
}
