package namespaces

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// devices that every job gets; the numbers are those of Documentation/admin-guide/devices.txt.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// Devices names the device nodes of a job in a user namespace, which are bind
// mounts of the node's own and hence external to a checkpoint.
func Devices() []string {
	var paths []string
	for _, d := range devices {
		paths = append(paths, "/dev/"+d.name)
	}
	return paths
}

// prepareTree binds the root and the node's mounts at cfg.RootDir, in a mount
// namespace that the calling thread has made for it. It is done outside the
// job's user namespace: inside one the kernel lets nobody take a part of a tree
// that others have covered.
func prepareTree(cfg Config) error {
	if err := mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := BindRoot(cfg.Root, cfg.RootDir); err != nil {
		return err
	}
	for _, m := range cfg.Mounts {
		if covered(m.Target) {
			continue
		}
		if err := bind(m.Source, filepath.Join(cfg.RootDir, m.Target), m.ReadOnly); err != nil {
			return err
		}
	}
	return nil
}

// covered reports whether target lies in a tree that buildRoot mounts anew.
func covered(target string) bool {
	return strings.HasPrefix(target, "/tmp/")
}

// buildRoot adds what belongs to the job alone to the prepared tree and moves
// into it.
func buildRoot(cfg Config) error {
	if cfg.User { // mounts that came from outside are locked until bound again
		if err := mount(cfg.RootDir, cfg.RootDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	in := func(p string) string { return filepath.Join(cfg.RootDir, p) }
	if err := mountKernelTrees(in); err != nil {
		return err
	}
	if err := mountDev(cfg, in); err != nil {
		return err
	}
	if err := mount("tmpfs", in("/tmp"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	for _, m := range cfg.Mounts {
		if !covered(m.Target) {
			continue
		}
		if err := makeTarget(m.Source, in(m.Target)); err != nil {
			return err
		}
		if err := bind(m.Source, in(m.Target), m.ReadOnly); err != nil {
			return err
		}
	}
	return pivot(cfg.RootDir)
}

// BindRoot binds root at dir without the mounts beneath it.
func BindRoot(root, dir string) error {
	if root == "" {
		root = "/"
	}
	return bind(root, dir, false)
}

func mountKernelTrees(in func(string) string) error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := mount("proc", in("/proc"), "proc", safe, ""); err != nil {
		return err
	}
	if _, err := os.Stat(in("/sys")); err != nil {
		return nil // an image need not have it
	}
	return mount("sysfs", in("/sys"), "sysfs", safe|unix.MS_RDONLY, "")
}

func mountDev(cfg Config, in func(string) string) error {
	if err := mount("tmpfs", in("/dev"), "tmpfs", unix.MS_NOSUID, "mode=755,size=1m"); err != nil {
		return err
	}
	if err := makeDevices(cfg.User, in); err != nil {
		return err
	}
	for _, d := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue", IOMount} {
		if err := os.Mkdir(in(d), 0o755); err != nil {
			return err
		}
	}
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := mount("devpts", in("/dev/pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return err
	}
	if err := mount("tmpfs", in("/dev/shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	if err := mount("mqueue", in("/dev/mqueue"), "mqueue", safe, ""); err != nil {
		return err
	}
	return bind(cfg.IODir, in(IOMount), false)
}

func makeDevices(user bool, in func(string) string) error {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, d := range devices {
		p := in("/dev/" + d.name)
		if !user {
			if err := unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
				return fmt.Errorf("make device %s: %w", d.name, err)
			}
			continue
		}
		if err := makeTarget("/dev/"+d.name, p); err != nil {
			return err
		}
		if err := bind("/dev/"+d.name, p, false); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, in("/dev/"+link)); err != nil {
			return err
		}
	}
	return nil
}

// pivot makes dir the root of this mount namespace and lets the old tree go.
func pivot(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root to %s: %w", dir, err)
	}
	// The old root now lies on top of the new one.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the node's mounts: %w", err)
	}
	return os.Chdir("/")
}

func bind(source, target string, readOnly bool) error {
	if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := mount("", target, "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if !readOnly {
		return nil
	}
	return mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// makeTarget makes a mount point of the same kind as source.
func makeTarget(source, target string) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, nil, 0o644)
}

func mount(source, target, fs string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fs, flags, data); err != nil {
		what := fs
		if what == "" {
			what = source
		}
		return fmt.Errorf("mount %s at %s: %w", what, target, err)
	}
	return nil
}
