package tmpfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/osthread"
)

// Dirs are the mounts of a job that this package carries. Every job has them.
func Dirs() []string { return []string{devices, "/dev/shm", "/tmp"} }

// devices is the one whose device nodes work.
const devices = "/dev"

// Default leaves a limit to the kernel.
const Default = -1

// Options are the limits of a tmpfs, see tmpfs(5). 0 is none.
type Options struct {
	Size   int64 `json:"size"`   // bytes
	Inodes int64 `json:"inodes"` // files, directories and so on
}

// ParseOptions finds the limits among a mount's options as mountinfo shows them,
// which leaves out those that are the kernel's defaults.
func ParseOptions(text string) (Options, error) {
	o := Options{Default, Default}
	for word := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "size":
			o.Size, err = parseSize(value)
		case "nr_inodes":
			o.Inodes, err = parseSize(value)
		}
		if err != nil {
			return o, fmt.Errorf("mount option %q: %w", word, err)
		}
	}
	return o, nil
}

func parseSize(text string) (int64, error) {
	number, kilo := strings.CutSuffix(text, "k")
	n, err := strconv.ParseInt(number, 10, 53)
	if kilo {
		n <<= 10
	}
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	return n, err
}

func (o Options) check() error {
	if o.Size < Default || o.Inodes < Default {
		return fmt.Errorf("%w: limits of %d bytes and %d files", ErrFormat, o.Size, o.Inodes)
	}
	return nil
}

// open takes hold of the tmpfs mounted at target in the mount namespace of pid: of
// the file system alone, without what is mounted on it. mount is its number in
// mountinfo, so that it is no other one.
func open(pid int, target, mount string) (*os.File, error) {
	var f *os.File
	err := osthread.Throwaway(func() (err error) {
		f, err = openThere(pid, target, mount)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take hold of %s: %w", target, err)
	}
	return f, nil
}

func openThere(pid int, target, mount string) (*os.File, error) {
	// A mount namespace can only be entered by a thread that shares its working
	// directory with no other.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, err
	}
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("enter the job's mount namespace: %w", err)
	}
	at, err := linux.Openat2(unix.AT_FDCWD, target, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	var st unix.Statx_t
	if err := unix.Statx(at, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return nil, err
	}
	if st.Mask&unix.STATX_MNT_ID != 0 && strconv.FormatUint(st.Mnt_id, 10) != mount {
		return nil, fmt.Errorf("mount %d is there, not %s", st.Mnt_id, mount)
	}
	fd, err := unix.OpenTree(at, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// That one is good for nothing but its path.
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(dir), target), nil
}
