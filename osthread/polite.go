package osthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Polite is the nice level of what gives way to jobs. Beside a thread of a job that
// never sleeps it gets 4 % of their processor.
const Polite = 14

// Politely runs fn on a thread that others on the node come before, as far as it needs
// processors, and with a clock of that thread. One that others come before already stays so. Where that may not be changed fn runs at
// the usual one. What fn starts in other goroutines is not included.
// fn calls Clock.TakeTurn between pieces of its work, so that it has its Floor.
func Politely(fn func(*Clock)) {
	Timed(func(clock *Clock) {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		usual := 20 - raw
		if err == nil {
			clock.polite = &polite{usual: usual, before: clock.usage(), level: usual}
			err = clock.polite.set(Polite)
		}
		fn(clock)
		if err == nil && unix.Setpriority(unix.PRIO_PROCESS, 0, usual) != nil {
			runtime.LockOSThread() // once more than it is unlocked: the thread ends with its goroutine
		}
	})
}

// polite is a thread that gives way.
type polite struct {
	usual, level int
	floor        Floor
	before       Usage
}

// set takes the thread to a level, unless others come before it anyway.
func (p *polite) set(level int) error {
	if p.usual > 0 { // as low as whoever started the agent wanted it
		level = max(level, p.usual)
	}
	if level == p.level {
		return nil
	}
	err := unix.Setpriority(unix.PRIO_PROCESS, 0, level)
	if err == nil {
		p.level = level
	}
	return err
}

// TakeTurn has a thread of Politely come before others, or others before it, as its
// Floor says. Other threads stay as they are.
func (c *Clock) TakeTurn() {
	p := c.polite
	if p == nil {
		return
	}
	now := c.usage()
	_ = p.set(p.floor.After(now.Ran-p.before.Ran, now.Waited-p.before.Waited)) // otherwise it goes on as it did
	p.before = now
}

// Timed runs fn on one thread, with a clock of that thread.
func Timed(fn func(*Clock)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	clock := NewClock()
	defer clock.Close() // only read
	fn(clock)
}
