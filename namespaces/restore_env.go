package namespaces

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
)

const restoreEnvName = "migrate:restore-env"

// RestoreEnv is the environment of a CRIU that restores a job. CRIU runs in the job's cgroup, so
// that the tasks are born there. The job inherits its cgroup namespace. Its mount namespace has
// the root of the job bound at RootDir. With Network it also has an empty network namespace, which
// the job inherits.
type RestoreEnv struct {
	Cgroup  *cgroup.Cgroup `json:"cgroup"`
	Root    string         `json:"root"`
	RootDir string         `json:"root_dir"`
	// User is the job's user on the node, who must be able to reach Root.
	User    osthread.User `json:"user"`
	Network bool          `json:"network,omitempty"`
	// Keyring names the session keyring of the job, see osthread.NewKeyring. CRIU restores no keys:
	// the job gets the keyring of CRIU.
	Keyring string `json:"keyring,omitempty"`
	// Entered is a descriptor that is closed when the environment is entered, 0 for none.
	Entered int `json:"entered,omitempty"`
}

// AttachMounts attaches detached mounts in the mount namespace of process pid, by path. It makes
// missing mount points, so only root may have a say in the paths.
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

// enterMountNamespace moves the calling thread into the mount namespace of pid for good.
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

// Wrap is the beginning of a command line that enters the environment and executes the command
// that follows. The thread that starts it must not be real-time: some cgroups accept no real-time
// task.
func (c RestoreEnv) Wrap() ([]string, error) {
	data, err := exactjson.Marshal(c)
	if err != nil {
		return nil, err
	}
	return []string{"/proc/self/exe", restoreEnvName, string(data)}, nil
}

// enterRestoreEnv prepares the environment that its arguments describe, and executes the command
// behind them.
func enterRestoreEnv() error {
	runtime.LockOSThread()
	var c RestoreEnv
	if err := exactjson.Unmarshal([]byte(os.Args[2]), &c); err != nil {
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
