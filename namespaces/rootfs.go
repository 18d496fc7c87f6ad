package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// rootTree is the root of a job while root builds it. The job's user may put links anywhere into
// it, at any time. So every path is resolved once, as the job will see it. From then on a
// descriptor names what was found.
type rootTree struct{ root *os.File }

func openTreeAt(dir string) (rootTree, error) {
	root, err := linux.OpenFile(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
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
	f, err := linux.OpenFile(int(t.root.Fd()), path, unix.O_PATH, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
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
	at, err := linux.OpenFile(int(o.top.Fd()), ".", unix.O_PATH, 0)
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
	return linux.OpenFile(int(dir.Fd()), name, unix.O_PATH, linux.Beneath)
}
