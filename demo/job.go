package demo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const tick = 100 * time.Millisecond

// lastCount ends a job that a killed demo has left behind.
const lastCount = int64(10 * time.Minute / tick)

// Job is the job of the demo: it holds memory, in bytes, and at each tick checks
// a part of it and writes a Line to w. It ends by itself only when something is
// not as it must be, or after a time that no demo needs.
func Job(w io.Writer, size int64) error {
	m, err := newMemory(size)
	if err != nil {
		return err
	}
	var l Line
	for l.Count < lastCount {
		began := time.Now()
		n, err := m.turn(l.Count)
		if err != nil {
			return err
		}
		l.Count++
		l.Checked += n
		if err := l.look(); err != nil {
			return err
		}
		if _, err := io.WriteString(w, l.String()); err != nil {
			return err
		}
		time.Sleep(tick - time.Since(began))
	}
	return errors.New("the demo has not ended this job")
}

// look asks the kernel for everything anew.
func (l *Line) look() (err error) {
	if l.Host, err = os.Hostname(); err != nil {
		return err
	}
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	l.Pid, l.Clock, l.Wall = os.Getpid(), time.Duration(t.Nano()), time.Now()
	return nil
}
