package namespaces

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
)

const restoreEnvName = "migrate:chamber"

// RestoreEnv is where CRIU works when it brings a job back: inside the job's
// cgroup, whose tasks then are born there, in a cgroup namespace that the job
// inherits, and in a mount namespace of its own with the root of the job bound
// at RootDir. With Network it has an empty network namespace too, for the job to
// inherit.
type RestoreEnv struct {
	Cgroup  *cgroup.Cgroup `json:"cgroup"`
	Root    string         `json:"root"`
	RootDir string         `json:"root_dir"`
	// User is the job's on the node, who must be able to reach Root.
	User    osthread.User `json:"user"`
	Network bool          `json:"network,omitempty"`
	// Keyring names the session keyring of the job, see osthread.NewKeyring. CRIU brings no
	// keys: the one that it works with is the job's.
	Keyring string `json:"keyring,omitempty"`
	// Entered is a descriptor of the chamber's process that is closed when the chamber
	// is entered, 0 for none.
	Entered int `json:"entered,omitempty"`
}

// AttachMounts attaches mounts that are attached nowhere yet at paths in the mount namespace of
// the process pid. Mount points are made if they are missing: nobody but root may have a
// say in the paths.
func AttachMounts(pid int, mounts map[string]*os.File) error {
	return osthread.Throwaway(func() error {
		if err := enterMountNamespace(pid); err != nil {
			return err
		}
		for path, m := range mounts {
			if err := attachMount(m, path); err != nil {
				return fmt.Errorf("attach %s at %s: %w", m.Name(), path, err)
			}
		}
		return nil
	})
}

func attachMount(m *os.File, path string) error {
	kind, err := m.Stat()
	if err != nil {
		return err
	}
	if kind.IsDir() {
		if err := os.MkdirAll(path, 0o711); err != nil {
			return err
		}
	} else {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
		if err != nil {
			return err
		}
		_ = f.Close() // nothing was written
	}
	return unix.MoveMount(int(m.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// enterMountNamespace takes the calling thread into the mount namespace of pid for good.
func enterMountNamespace(pid int) error {
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
// becomes the command that follows. The thread that starts it is to be ordinary: there are
// cgroups that the kernel lets no real-time task into, of whatever thread.
func (c RestoreEnv) Wrap() ([]string, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return []string{"/proc/self/exe", restoreEnvName, string(data)}, nil
}

// enterRestoreEnv prepares the surroundings that its arguments describe and becomes the
// command that follows them.
func enterRestoreEnv() error {
	runtime.LockOSThread()
	var c RestoreEnv
	if err := json.Unmarshal([]byte(os.Args[2]), &c); err != nil {
		return err
	}
	if err := errors.Join(osthread.NewKeyring(c.Keyring), setOOM("self", 0)); err != nil {
		return err
	}
	if err := c.Cgroup.Enter(os.Getpid()); err != nil {
		return err
	}
	// A thread without groups keeps those that CRIU has (rst_prep_creds_args in its cr-restore.c).
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leave all groups: %w", err)
	}
	root, err := rootMount(c.Root).OpenDetached(c.User)
	if err != nil {
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
		if err := network.SetUpLoopback(); err != nil {
			return err
		}
	}
	if err := mountRoot(root, c.RootDir); err != nil {
		return err
	}
	if c.Entered != 0 {
		unix.CloseOnExec(c.Entered)
	}
	return syscall.Exec(os.Args[3], os.Args[3:], os.Environ())
}
