package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// rootTree is the root of a job while it is built, by root. The job's user may have put links
// anywhere into it, and goes on doing so: every path is looked up as the job is going to
// see it, and what it led to is then named by the descriptor alone.
type rootTree struct{ root *os.File }

func openTreeAt(dir string) (rootTree, error) {
	root, err := openat2(unix.AT_FDCWD, dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return rootTree{}, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return rootTree{root}, nil
}

// RootHas tells, by its error, whether a job with this root has something at path.
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

// find follows links, which lead nowhere beyond the root.
func (t rootTree) find(path string) (*os.File, error) {
	f, err := openat2(int(t.root.Fd()), path, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, fmt.Errorf("find %s in the job's root: %w", path, err)
	}
	return f, nil
}

// attach mounts at what there is.
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

// jobFS is a file system that the job has for itself, new, at a place in its root.
type jobFS struct {
	job rootTree
	top *os.File
	at  string
}

// attach mounts at a path beneath, and makes a mount point if there is none.
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

// makeMountPoint makes a mount point of the kind of mount, on this file system only: what has
// been bound here is somebody's, in which we make nothing.
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

// openOrMake opens a name in dir, which it closes, and makes a directory or an empty file
// of it if it is not there. EXDEV says that it is on another file system.
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

// openat2 opens a path for what can be done by it alone.
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

// Retry repeats what a signal has interrupted, and what openat2(2) has given up because
// something was renamed meanwhile, which somebody could do for ever.
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
