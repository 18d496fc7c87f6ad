package osthread

import (
	"os"
	"time"
)

// Clock stands still while a thread could run and has no processor. What it measures on
// a busy node is what the same would take on one that is not. A thread that sleeps, for
// a lock or a slow peer, sleeps by this clock, too.
type Clock struct {
	began  time.Time
	before time.Duration // that the thread had waited by then
	delay  *os.File      // of the thread; nil: the clock goes on whatever the processors do
	polite *polite       // nil: the thread gives way to nobody
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

func (c *Clock) waited() time.Duration { return c.usage().Waited }

// usage is nothing where the kernel keeps no count.
func (c *Clock) usage() Usage {
	if c.delay == nil {
		return Usage{}
	}
	text := make([]byte, 96)
	n, _ := c.delay.ReadAt(text, 0) // to the end of the file, which is an error
	u, _ := parseUsage(text[:n])
	return u
}

// Close ends a clock.
func (c *Clock) Close() error {
	if c.delay == nil {
		return nil
	}
	return c.delay.Close()
}
