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

// lastCount ends a job whose demo was killed.
const lastCount = int64(10 * time.Minute / tick)

// Job is the job of the demo. It holds size bytes of memory; at each tick it checks a part
// of them and writes a Line to w. It ends by itself only after an error, or after a time
// that no demo needs.
func Job(w io.Writer, size int64) error {
	m, err := newMemory(size)
	if err != nil {
		return err
	}
	var l Line
	for l.Count < lastCount {
		began := time.Now()
		n, err := m.step(l.Count)
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

// look asks the kernel for hostname, clock and pid, at every tick.
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
