package linux

import "golang.org/x/sys/unix"

// Alive returns ESRCH if the process of a pidfd has ended.
func Alive(pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := RetryValue(func() (int, error) { return unix.Poll(fds, 0) })
	if err == nil && n > 0 {
		return unix.ESRCH
	}
	return err
}
