package namespaces

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/thread"
)

const chamberName = "migrate:chamber"

// Chamber is where CRIU works when it brings a job back: inside the job's
// cgroup, whose tasks then are born there, in a cgroup namespace that the job
// inherits, and in a mount namespace of its own with the root of the job bound
// at RootDir. With Network it has an empty network namespace too, for the job to
// inherit.
type Chamber struct {
	Cgroup  *Cgroup `json:"cgroup"`
	Root    string  `json:"root"`
	RootDir string  `json:"root_dir"`
	Network bool    `json:"network,omitempty"`
	// Entered is a descriptor of the chamber's process that is closed when the chamber
	// is entered, 0 for none.
	Entered int `json:"entered,omitempty"`
}

// Attach attaches mounts that are attached nowhere yet, named by the paths of
// descriptors, /proc/PID/fd/N, at directories as the process pid has them in its mount
// namespace. The directories are made if they are missing.
func Attach(pid int, mounts map[string]string) error {
	return thread.Throwaway(func() error {
		fds := map[string]int{}
		for path, dir := range mounts {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return &os.PathError{Op: "open", Path: path, Err: err}
			}
			defer unix.Close(fd)
			fds[dir] = fd
		}
		if err := enterMounts(pid); err != nil {
			return err
		}
		for dir, fd := range fds {
			if err := os.MkdirAll(dir, 0o711); err != nil {
				return err
			}
			if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
				return fmt.Errorf("attach a mount at %s: %w", dir, err)
			}
		}
		return nil
	})
}

// enterMounts takes the calling thread into the mount namespace of pid for good.
func enterMounts(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	err = unix.Unshare(unix.CLONE_FS)
	if err == nil {
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
	}
	if err != nil {
		return fmt.Errorf("enter the mount namespace of process %d: %w", pid, err)
	}
	return nil
}

// Wrap is the beginning of a command line that enters the chamber and then
// becomes the command that follows.
func (c Chamber) Wrap() ([]string, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return []string{"/proc/self/exe", chamberName, string(data)}, nil
}

// chamber prepares the surroundings that its arguments describe and becomes the
// command that follows them.
func chamber() error {
	runtime.LockOSThread()
	var c Chamber
	if err := json.Unmarshal([]byte(os.Args[2]), &c); err != nil {
		return err
	}
	if err := c.Cgroup.Enter(os.Getpid()); err != nil {
		return err
	}
	flags := unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP
	if c.Network {
		flags |= unix.CLONE_NEWNET
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces for CRIU: %w", err)
	}
	if c.Network { // a CRIU that finds no results of earlier probes connects to itself
		if err := setUpLoopback(); err != nil {
			return err
		}
	}
	if err := mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := BindRoot(c.Root, c.RootDir); err != nil {
		return err
	}
	if c.Entered != 0 {
		unix.CloseOnExec(c.Entered)
	}
	return syscall.Exec(os.Args[3], os.Args[3:], os.Environ())
}
