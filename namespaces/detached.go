package namespaces

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

// OpenDetached returns a mount of what m.Source leads to, without the mounts beneath it, that is
// attached nowhere yet and remains that file or directory whatever becomes of the path.
// A source of the user's choice is looked up with the user's own rights: a bind must not
// open what the directories above it close.
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
	err = Retry(func() error {
		fd, err = unix.OpenTree(int(at.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		return err
	})
	return fd, err
}

// openSource follows a user's links, but not those of /proc, by which we would get to what we
// hold open ourselves. The node's mounts are named without links by mountinfo(5): one
// that is there is somebody's who wants to lead root elsewhere.
func (m Mount) openSource(user osthread.User) (at *os.File, err error) {
	resolve := uint64(unix.RESOLVE_NO_MAGICLINKS)
	if m.Node {
		user, resolve = osthread.User{}, unix.RESOLVE_NO_SYMLINKS
	}
	err = osthread.As(user, func() error {
		at, err = openat2(unix.AT_FDCWD, m.Source, unix.O_DIRECTORY, resolve) // has an automounter mount it
		if errors.Is(err, unix.ENOTDIR) {
			at, err = openat2(unix.AT_FDCWD, m.Source, 0, resolve)
		}
		return err
	})
	return at, err
}

// detachedMounts are the node's part of a job's mounts.
type detachedMounts struct {
	root  *os.File
	outer []*os.File // of early(cfg)
	inner []*os.File // of late(cfg)
}

// outerMounts are the mounts that are made outside the job's namespaces.
func outerMounts(cfg Config) (mounts []Mount) {
	for _, m := range cfg.Mounts {
		if !belowTmp(m.Target) {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// innerMounts are those on file systems that PID 1 makes. It finds them as descriptors from
// lateFD on, in this order.
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

// close lets go of them; those that were attached stay.
func (s detachedMounts) close() {
	closeAll(append([]*os.File{s.root}, s.outer...))
	closeAll(s.inner)
}

// closeAll closes what was opened to be mounted and nothing else.
func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // it may be nil
	}
}
