package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const nosuidNodevNoexec = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// newMount makes a detached file system. Options are words as mount(8) takes them.
func newMount(fs string, attrs int, options ...string) (*os.File, error) {
	ctx, err := unix.Fsopen(fs, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file system of type %s: %w", fs, err)
	}
	defer unix.Close(ctx)
	for _, o := range append([]string{"source=" + fs}, options...) {
		key, value, given := strings.Cut(o, "=")
		if given {
			err = errors.Join(err, unix.FsconfigSetString(ctx, key, value))
		} else {
			err = errors.Join(err, unix.FsconfigSetFlag(ctx, key))
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(ctx)
	}
	fd := -1
	if err == nil {
		fd, err = unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attrs)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file system of type %s: %w", fs, err)
	}
	return os.NewFile(uintptr(fd), fs), nil
}

// mountNew mounts a new file system at a directory of the root.
func (t rootTree) mountNew(at, fs string, attrs int, options ...string) (jobFS, error) {
	m, err := newMount(fs, attrs, options...)
	if err != nil {
		return jobFS{}, err
	}
	if err := t.attach(m, at); err != nil {
		return jobFS{}, errors.Join(err, m.Close())
	}
	return jobFS{job: t, top: m, at: at}, nil
}

func (t rootTree) mountKernelTrees() error {
	proc, err := t.mountNew("/proc", "proc", nosuidNodevNoexec)
	if err != nil {
		return err
	}
	sys, err := t.mountNew("/sys", "sysfs", nosuidNodevNoexec|unix.MOUNT_ATTR_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		return proc.top.Close() // an image need not have it
	}
	if err != nil {
		return err
	}
	return errors.Join(proc.top.Close(), sys.top.Close())
}

func (t rootTree) mountTmp() (jobFS, error) {
	return t.mountNew("/tmp", "tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "mode=1777")
}

func (t rootTree) mountDev(user bool) (jobFS, error) {
	dev, err := t.mountNew("/dev", "tmpfs", unix.MOUNT_ATTR_NOSUID, "mode=755", "size=1m")
	if err != nil {
		return dev, err
	}
	if !user {
		if err := dev.makeDevices(); err != nil {
			return dev, err
		}
	}
	if err := dev.makeLinks(); err != nil {
		return dev, err
	}
	for _, m := range []struct {
		name, fs string
		attrs    int
		options  []string
	}{
		{"pts", "devpts", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
		{"shm", "tmpfs", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, []string{"mode=1777"}},
		{"mqueue", "mqueue", nosuidNodevNoexec, nil},
	} {
		if err := dev.mountBeneath(m.name, m.fs, m.attrs, m.options...); err != nil {
			return dev, err
		}
	}
	return dev, nil
}

func (o jobFS) mountBeneath(name, fs string, attrs int, options ...string) error {
	m, err := newMount(fs, attrs, options...)
	if err != nil {
		return err
	}
	return errors.Join(o.attach(m, o.at+"/"+name), m.Close())
}

func (o jobFS) makeDevices() error {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, d := range devices {
		if err := unix.Mknodat(int(o.top.Fd()), d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make device %s: %w", d.name, err)
		}
	}
	return nil
}

func (o jobFS) makeLinks() error {
	for link, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := unix.Symlinkat(to, int(o.top.Fd()), link); err != nil {
			return fmt.Errorf("make the link /dev/%s: %w", link, err)
		}
	}
	return nil
}

// belowTmp reports whether target lies in the /tmp that PID 1 mounts.
func belowTmp(target string) bool { return strings.HasPrefix(path.Clean(target), "/tmp/") }

// devices are the device nodes of every job, with the numbers of
// Documentation/admin-guide/devices.txt.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// Devices names the device nodes of a job in a user namespace. They are bind mounts of the node's
// devices, and so external mounts of a checkpoint.
func Devices() []string {
	var paths []string
	for _, d := range devices {
		paths = append(paths, "/dev/"+d.name)
	}
	return paths
}
