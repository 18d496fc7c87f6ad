package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// rootTree is the root of a job while root builds it. The job's user may put links anywhere into
// it, at any time. So every path is resolved once, as the job will see it. From then on a
// descriptor names what was found.
type rootTree struct{ root *os.File }

func openTreeAt(dir string) (rootTree, error) {
	root, err := openat2(unix.AT_FDCWD, dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return rootTree{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return rootTree{root}, nil
}

// RootHas returns an error unless a job with this root has something at path.
func RootHas(root, path string) error {
	t, err := openTreeAt(rootMount(root).Source)
	if err != nil {
		return err
	}
	defer t.root.Close()
	at, err := t.find(path)
	if err != nil {
		return err
	}
	return at.Close()
}

// find follows links, none of which leads beyond the root.
func (t rootTree) find(path string) (*os.File, error) {
	f, err := openat2(int(t.root.Fd()), path, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, fmt.Errorf("find %s in the job's root: %w", path, err)
	}
	return f, nil
}

// attach mounts at an existing file or directory.
func (t rootTree) attach(mount *os.File, path string) error {
	at, err := t.find(path)
	if err != nil {
		return err
	}
	defer at.Close()
	return attachAt(mount, at, path)
}

func attachAt(mount, at *os.File, path string) error {
	err := unix.MoveMount(int(mount.Fd()), "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", mount.Name(), path, err)
	}
	return nil
}

// jobFS is a new file system that only the job has, at a place in its root.
type jobFS struct {
	job rootTree
	top *os.File
	at  string
}

// attach mounts at a path beneath, and makes a missing mount point.
func (o jobFS) attach(mount *os.File, target string) error {
	at, err := o.job.find(target)
	if errors.Is(err, unix.ENOENT) {
		at, err = o.makeMountPoint(target, mount)
	}
	if err != nil {
		return err
	}
	defer at.Close()
	return attachAt(mount, at, target)
}

// makeMountPoint makes a file or directory, whichever the mount is. It makes nothing on another
// file system: a user's directory may be bound there.
func (o jobFS) makeMountPoint(target string, mount *os.File) (*os.File, error) {
	kind, err := mount.Stat()
	if err != nil {
		return nil, err
	}
	at, err := openat2(int(o.top.Fd()), ".", 0, 0)
	if err != nil {
		return nil, err
	}
	names := strings.Split(strings.TrimPrefix(path.Clean(target), o.at+"/"), "/")
	for i, name := range names {
		at, err = openOrMake(at, name, i < len(names)-1 || kind.IsDir())
		if errors.Is(err, unix.EXDEV) {
			err = fmt.Errorf("nothing is made in %s, which is bound there", path.Join(o.at, path.Join(names[:i+1]...)))
		}
		if err != nil {
			return nil, fmt.Errorf("make the mount point %s: %w", target, err)
		}
	}
	return at, nil
}

// openOrMake opens a name in dir, and closes dir. A missing name becomes a directory or an empty
// file. EXDEV means that it lies on another file system.
func openOrMake(dir *os.File, name string, isDir bool) (*os.File, error) {
	defer dir.Close()
	make := func() error { return unix.Mknodat(int(dir.Fd()), name, unix.S_IFREG|0o644, 0) }
	if isDir {
		make = func() error { return unix.Mkdirat(int(dir.Fd()), name, 0o755) }
	}
	if err := make(); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	return openat2(int(dir.Fd()), name, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
}

// openat2 opens a path as an O_PATH descriptor.
func openat2(dir int, name string, flags, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: resolve}
	var fd int
	err := Retry(func() (err error) {
		fd, err = unix.Openat2(dir, name, &how)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Retry repeats a call that a signal interrupted (EINTR), or that openat2(2) gave up because of a
// rename (EAGAIN). A user could rename for ever, so the number of tries is bounded.
func Retry(call func() error) (err error) {
	const most = 1000
	for range most {
		err = call()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	return err
}
