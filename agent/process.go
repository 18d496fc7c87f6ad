package agent

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// awaitProcess returns when the process has ended, ctx ends or the time is up.
func awaitProcess(ctx context.Context, pid int, most time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	const step = 100 * time.Millisecond // how late a cancelled ctx may be noticed
	for end := time.Now().Add(most); ctx.Err() == nil && time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		if n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return
		}
	}
}
