package namespaces

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/osthread"
)

// OpenDetached returns a detached mount of m.Source, without the mounts beneath it (open_tree(2)).
// It stays that file or directory, whatever happens to the path. A source that a user has named is
// looked up with that user's rights. A bind must not open what a directory above it closes.
func (m Mount) OpenDetached(user osthread.User) (*os.File, error) {
	fd, err := m.cloneTree(user)
	if err != nil {
		return nil, fmt.Errorf("take hold of %s to bind it: %w", m.Source, err)
	}
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if m.ReadOnly { // nosuid, nodev and noexec stay as they are
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the mount of %s: %w", m.Source, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), m.Source), nil
}

func (m Mount) cloneTree(user osthread.User) (fd int, err error) {
	at, err := m.openSource(user)
	if err != nil {
		return -1, err
	}
	defer at.Close()
	return linux.RetryValue(func() (int, error) {
		return unix.OpenTree(int(at.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	})
}

// openSource follows the links of a user, but not those of /proc, which lead to descriptors of
// this process. The node's mounts have no links in their paths: mountinfo(5) resolves them. A link
// in such a path was put there later, to lead root elsewhere.
func (m Mount) openSource(user osthread.User) (at *os.File, err error) {
	resolve := uint64(unix.RESOLVE_NO_MAGICLINKS)
	if m.Node {
		user, resolve = osthread.User{}, unix.RESOLVE_NO_SYMLINKS
	}
	err = osthread.As(user, func() error {
		at, err = linux.OpenFile(unix.AT_FDCWD, m.Source, unix.O_PATH|unix.O_DIRECTORY, resolve) // has an automounter mount it
		if errors.Is(err, unix.ENOTDIR) {
			at, err = linux.OpenFile(unix.AT_FDCWD, m.Source, unix.O_PATH, resolve)
		}
		return err
	})
	return at, err
}

// detachedMounts are the sources of a job's mounts.
type detachedMounts struct {
	root  *os.File
	outer []*os.File // of early(cfg)
	inner []*os.File // of late(cfg)
}

// outerMounts are attached before the job's user namespace is entered.
func outerMounts(cfg Config) (mounts []Mount) {
	for _, m := range cfg.Mounts {
		if !belowTmp(m.Target) {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// innerMounts lie on file systems that PID 1 makes. PID 1 finds them as descriptors from
// innerMountFD on, in this order.
func innerMounts(cfg Config) []Mount {
	mounts := []Mount{{Source: cfg.IODir, Target: IOMount}}
	if cfg.User { // who may make no devices
		for _, d := range Devices() {
			mounts = append(mounts, Mount{Source: d, Target: d})
		}
	}
	for _, m := range cfg.Mounts {
		if belowTmp(m.Target) {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

func openMounts(cfg Config) (s detachedMounts, err error) {
	user := osthread.User{UID: cfg.UID, GID: cfg.GID, Groups: cfg.Groups}
	take := func(m Mount, user osthread.User) (f *os.File) {
		if err == nil {
			f, err = m.OpenDetached(user)
		}
		return f
	}
	s.root = take(rootMount(cfg.Root), user)
	for _, m := range outerMounts(cfg) {
		s.outer = append(s.outer, take(m, user))
	}
	for _, m := range innerMounts(cfg) {
		who := user
		if !belowTmp(m.Target) { // in /dev, where a user binds nothing
			who = osthread.User{}
		}
		s.inner = append(s.inner, take(m, who))
	}
	if err != nil {
		s.close()
	}
	return s, err
}

// close closes the descriptors. Mounts that were attached stay.
func (s detachedMounts) close() {
	closeAll(append([]*os.File{s.root}, s.outer...))
	closeAll(s.inner)
}

// closeAll closes descriptors to which nothing was written.
func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // it may be nil
	}
}
