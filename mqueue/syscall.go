package mqueue

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/osthread"
)

// list opens the directory of a job's queues; nil if it has none there. PID 1 is the user's:
// its root and mounts may be of its own making by now, with a link, a FIFO or another
// user's files where the queues should be. So list follows no link, leaves its root
// nowhere, and opens only the kernel's own file system of queues.
func list(pid int) (dir *os.File, names []string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("message queues: %w", err)
		}
	}()
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(root)
	at, err := linux.Openat2(root, Dir, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(at)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(at, &fs); err != nil || fs.Type != Magic {
		return nil, nil, err
	}
	fd, err := unix.Openat(at, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	dir = os.NewFile(uintptr(fd), Dir)
	if names, err = dir.Readdirnames(-1); err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	slices.Sort(names)
	return dir, names, nil
}

// open opens a queue: in a directory of queues there is nothing else.
func open(dir *os.File, name string, access int) (int, error) {
	return unix.Openat(int(dir.Fd()), name, access|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// attributes is struct mq_attr (include/uapi/linux/mqueue.h).
type attributes struct {
	flags, maxMessages, messageSize, current int64
	_                                        [4]int64
}

func getattr(fd int) (a attributes, err error) {
	_, _, errno := unix.Syscall(unix.SYS_MQ_GETSETATTR, uintptr(fd), 0, uintptr(unsafe.Pointer(&a)))
	if errno != 0 {
		return a, fmt.Errorf("attributes: %w", errno)
	}
	return a, nil
}

func receive(fd int, buf []byte) (n int, priority uint32, err error) {
	r, errno := linux.Syscall(func() (uintptr, uintptr, unix.Errno) {
		return unix.Syscall6(unix.SYS_MQ_TIMEDRECEIVE, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), uintptr(unsafe.Pointer(&priority)), 0, 0)
	})
	if errno != 0 {
		return 0, 0, errno
	}
	return int(r), priority, nil
}

func send(fd int, data []byte, priority uint32) error {
	p := unsafe.Pointer(&[1]byte{})
	if len(data) > 0 {
		p = unsafe.Pointer(&data[0])
	}
	_, errno := linux.Syscall(func() (uintptr, uintptr, unix.Errno) {
		return unix.Syscall6(unix.SYS_MQ_TIMEDSEND, uintptr(fd), uintptr(p), uintptr(len(data)), uintptr(priority), 0, 0)
	})
	if errno != 0 {
		return errno
	}
	return nil
}

// create makes a queue in the ipc namespace of the calling thread.
func create(name string, maxMessages, messageSize int64) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	a := attributes{maxMessages: maxMessages, messageSize: messageSize}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600, uintptr(unsafe.Pointer(&a)), 0, 0)
	if errno != 0 {
		return -1, fmt.Errorf("create: %w", errno)
	}
	return int(fd), nil
}

// actAs makes what the calling thread creates belong to uid and gid.
func actAs(uid, gid uint32) error {
	if _, err := unix.SetfsgidRetGid(int(gid)); err != nil {
		return err
	}
	if _, err := unix.SetfsuidRetUid(int(uid)); err != nil {
		return err
	}
	if got, err := unix.SetfsuidRetUid(-1); err != nil || got != int(uid) {
		return fmt.Errorf("act as user %d: the kernel refused (%v)", uid, err)
	}
	return nil
}

// inIPC runs do on a thread that is in the ipc namespace of pid and ends after it.
func inIPC(pid int, do func() error) error {
	return osthread.Throwaway(func() error {
		if err := enter(pid, "ipc", unix.CLONE_NEWIPC); err != nil {
			return err
		}
		return do()
	})
}

// Mount mounts the queues of pid's ipc namespace at dir of its mount namespace.
func Mount(pid int, dir string) error {
	return osthread.Throwaway(func() error {
		// A mount namespace can only be entered by a thread that shares its working
		// directory with no other.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := enter(pid, "ipc", unix.CLONE_NEWIPC); err != nil {
			return err
		}
		if err := enter(pid, "mnt", unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("mqueue", dir, "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount the message queues: %w", err)
		}
		return nil
	})
}

func enter(pid int, kind string, flag int) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, flag); err != nil {
		return fmt.Errorf("enter the job's %s namespace: %w", kind, err)
	}
	return nil
}
