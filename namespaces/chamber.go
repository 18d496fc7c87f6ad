package namespaces

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
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
	// Attach are mounts that nobody but CRIU shall see.
	Attach []Attach `json:"attach,omitempty"`
}

// Attach is a mount that is attached nowhere yet.
type Attach struct {
	FD  int    `json:"fd"` // of the chamber's process, which closes it
	Dir string `json:"dir"`
}

func (a Attach) attach() error {
	if err := unix.MoveMount(a.FD, "", unix.AT_FDCWD, a.Dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach a mount at %s: %w", a.Dir, err)
	}
	return unix.Close(a.FD)
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
	for _, a := range c.Attach {
		if err := a.attach(); err != nil {
			return err
		}
	}
	return syscall.Exec(os.Args[3], os.Args[3:], os.Environ())
}
