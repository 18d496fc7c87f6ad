package preflight

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/procfs"
)

// openFiles reads what one process has open or mapped.
type openFiles struct {
	pid  int
	init int // PID 1 of the job, whose root is the job's
	view mountView
}

// ownLinks are the links of a process to what it has open without a descriptor.
var ownLinks = []string{"cwd", "root", "exe"}

func (h openFiles) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", h.pid, name) }

// opened lists the descriptors, the working directory, the root and the program.
func (h openFiles) opened() ([]descriptor, error) {
	dir, err := os.Open(h.proc("fd"))
	if procfs.IsGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil && !procfs.IsGone(err) {
		return nil, err
	}
	var list []descriptor
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		d, err := h.descriptor(n)
		if procfs.IsGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	for _, name := range ownLinks {
		f, err := h.file(h.proc(name))
		if procfs.IsGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, descriptor{file: f, Number: -1})
	}
	return list, h.readNetlink(list)
}

func (h openFiles) descriptor(n int) (descriptor, error) {
	at := h.proc("fd/" + strconv.Itoa(n))
	f, err := h.file(at)
	if err != nil {
		return descriptor{}, err
	}
	d := descriptor{file: f, Number: n}
	info, err := procfs.ReadFields(h.proc("fdinfo/" + strconv.Itoa(n)))
	if err != nil {
		return d, err
	}
	if flags, err := strconv.ParseInt(info["flags"], 8, 64); err == nil {
		d.Flags = int(flags)
	}
	if info["lock"] != "" {
		d.Locked, d.Leased, err = excludes(h.proc("fdinfo/" + strconv.Itoa(n)))
		if err != nil {
			return d, err
		}
	}
	if f.kind() == unix.S_IFSOCK {
		d.Proto = protocol(at)
	}
	if clock, err := strconv.Atoi(strings.TrimSpace(info["clockid"])); err == nil {
		d.Clock = clock
	}
	if pid, err := strconv.Atoi(info["Pid"]); err == nil {
		d.Pid = pid
	}
	return d, nil
}

// excludes tells whether a descriptor's fdinfo lists an exclusive lock, and a lease.
func excludes(path string) (locked, leased bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return false, false, err
	}
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "lock:") {
			continue
		}
		lease := strings.Contains(line, " LEASE ")
		leased = leased || lease
		locked = locked || !lease && strings.Contains(line, " WRITE ")
	}
	return locked, leased, nil
}

// protocol asks sockfs for the name of a socket's protocol ("TCP", "MPTCP", …;
// net/socket.c, sockfs_xattr_get).
func protocol(path string) string {
	buf := make([]byte, 64)
	n, err := linux.RetryValue(func() (int, error) { return unix.Getxattr(path, "system.sockprotoname", buf) })
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(buf[:n]), "\x00")
}

// file looks at what a magic link of /proc leads to.
func (h openFiles) file(at string) (file, error) {
	link, err := os.Readlink(at)
	if errors.Is(err, unix.ENAMETOOLONG) {
		link, err = tooLong, nil
	}
	if err != nil {
		return file{}, err
	}
	ino, err := statx(at, unix.AT_STATX_DONT_SYNC)
	if err != nil {
		return file{}, err
	}
	f := file{inode: ino, Link: link}
	if !strings.HasPrefix(link, "/") {
		return f, nil
	}
	m, nested, ok := h.view.find(ino.Mount)
	switch {
	case ino.MountIsKnown && !ok:
		f.Magic = magic(at)
	case !ok || m.Type == "proc" || m.Type == "devpts":
	case nested == nil:
		f.Name = nameStateFrom(h.init, f)
	case nested.root != 0:
		f.Name = nameStateFrom(nested.root, f)
	}
	return f, nil
}

// nameStateFrom asks where the file's name leads now, from the root of a process. The kernel gives the name without
// symbolic links. A link that was put there since could lead root to files that the job's user
// must not see.
func nameStateFrom(root int, f file) nameState {
	if f.Links == 0 {
		return nameHolds // the judge looks at the number of links first
	}
	found, err := statFromRoot(root, f.Link)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nameGone
	case err == nil && found.key() != f.key():
		return nameReused
	}
	return nameHolds
}

func statFromRoot(pid int, link string) (inode, error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return inode{}, err
	}
	defer unix.Close(root)
	fd, err := linux.Openat2(root, link, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return inode{}, err
	}
	defer unix.Close(fd)
	return statxAt(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC)
}

// statx is statx(2). With AT_STATX_DONT_SYNC no file server is asked.
func statx(path string, flags int) (inode, error) { return statxAt(unix.AT_FDCWD, path, flags) }

func statxAt(dir int, path string, flags int) (inode, error) {
	var st unix.Statx_t
	if err := linux.Retry(func() error { return unix.Statx(dir, path, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st) }); err != nil {
		return inode{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return inode{
		Mode: uint32(st.Mode), DevMajor: st.Dev_major, DevMinor: st.Dev_minor, RdevMajor: st.Rdev_major, RdevMinor: st.Rdev_minor,
		Ino: st.Ino, Links: st.Nlink, Size: int64(st.Size), Allocated: int64(st.Blocks) * 512,
		Mount: st.Mnt_id, MountIsKnown: st.Mask&unix.STATX_MNT_ID != 0,
	}, nil
}

func magic(path string) int64 {
	var st unix.Statfs_t
	if err := linux.Retry(func() error { return unix.Statfs(path, &st) }); err != nil {
		return 0
	}
	return int64(st.Type)
}

// mapped lists the mapped files, each once, and the kernel's areas by name.
func (h openFiles) mapped() ([]mapping, error) {
	var list []mapping
	seen := map[procfs.Mapping]bool{}
	for at, err := range procfs.Maps(h.proc("maps")) {
		if procfs.IsGone(err) {
			break
		}
		if err != nil {
			return nil, err
		}
		key := procfs.Mapping{Perms: at.Perms, Device: at.Device, Inode: at.Inode, Name: at.Name}
		if at.Inode == "0" && at.Name == "" || seen[key] {
			continue
		}
		seen[key] = true
		m := mapping{Shared: at.Shared(), Writable: at.Writable(), file: file{Link: at.Name}}
		if at.Inode != "0" {
			m.file, err = h.file(h.proc("map_files/" + at.Link()))
		}
		if procfs.IsGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}
