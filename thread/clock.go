package thread

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// Clock stands still while a thread could run and has no processor. What it measures on
// a busy node is what the same would take on one that is not. A thread that sleeps, for
// a lock or a slow peer, sleeps by this clock, too.
type Clock struct {
	began  time.Time
	before time.Duration // that the thread had waited by then
	delay  *os.File      // of the thread; nil: the clock goes on whatever the processors do
}

// Wall is a clock of any thread that never stands still.
func Wall() *Clock { return &Clock{began: time.Now()} }

// NewClock is for the calling goroutine, which must stay on its thread as long as it
// uses the clock. On a kernel that keeps no count (CONFIG_SCHED_INFO) it is Wall.
func NewClock() *Clock {
	c := Wall()
	if f, err := os.Open("/proc/thread-self/schedstat"); err == nil {
		c.delay = f
		c.before = c.waited()
	}
	return c
}

// Now is the time since the clock was made.
func (c *Clock) Now() time.Duration {
	return time.Since(c.began) - (c.waited() - c.before)
}

// waited is the second field of proc_pid_schedstat: nanoseconds on a run queue.
func (c *Clock) waited() time.Duration {
	if c.delay == nil {
		return 0
	}
	text := make([]byte, 96)
	n, _ := c.delay.ReadAt(text, 0) // to the end of the file, which is an error
	fields := bytes.Fields(text[:n])
	if len(fields) < 2 {
		return 0
	}
	ns, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ns)
}

// Close ends a clock.
func (c *Clock) Close() error {
	if c.delay == nil {
		return nil
	}
	return c.delay.Close()
}
