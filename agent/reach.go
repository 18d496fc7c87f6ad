package agent

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
)

// reachable checks that the caller could reach, by itself, every path of the
// node that the agent is about to bind as root: a bind must not open what the
// directories above it close.
func reachable(c caller, s job.Spec) error {
	if c.root() {
		return nil
	}
	var paths []string
	if s.Root != "" {
		paths = append(paths, s.Root)
	}
	for _, b := range s.Binds {
		paths = append(paths, b.Source)
	}
	return asCaller(c, func() error { return reachAs(paths) })
}

func reachAs(paths []string) error {
	for _, p := range paths {
		fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("you cannot reach %s: %w", p, err)
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

// assume gives this thread alone the caller's identity towards file systems. The
// calls are raw, because those of package syscall change every thread.
func assume(c caller) error {
	var list unsafe.Pointer
	if len(c.groups) > 0 {
		list = unsafe.Pointer(&c.groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(c.groups)), uintptr(list), 0); errno != 0 {
		return fmt.Errorf("take the caller's groups: %w", errno)
	}
	if _, err := unix.SetfsgidRetGid(int(c.gid)); err != nil {
		return err
	}
	if _, err := unix.SetfsuidRetUid(int(c.uid)); err != nil {
		return err
	}
	if got, err := unix.SetfsuidRetUid(-1); err != nil || got != int(c.uid) {
		return fmt.Errorf("take the caller's identity: the kernel refused (%v)", err)
	}
	return nil
}
