package fileaccess

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// find looks a path of the job up, and follows links as the job would. Those of /proc lead
// to what tasks hold, past all directories.
func find(root int, path string, mode uint32) (fd int, err error) {
	flags := uint64(unix.O_PATH)
	if mode&unix.S_IFMT == unix.S_IFLNK {
		flags |= unix.O_NOFOLLOW
	}
	return linux.Openat2(root, path, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// readLink takes 4096 bytes for what the kernel has never more of, see do_proc_readlink.
func readLink(dir int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := linux.RetryValue(func() (int, error) { return unix.Readlinkat(dir, name, buf[:]) })
	return string(buf[:max(n, 0)]), err
}

// look is statx(2). No file server is asked.
func look(dir int, path string, flags int) (unix.Statx_t, error) {
	return linux.Statx(dir, path, flags|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID)
}

func device(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }

// access is faccessat2(2). Without AT_EACCESS it would ask for the real user, who is root.
func access(fd int, mode uint32) error {
	var empty [1]byte
	_, errno := linux.Syscall(func() (uintptr, uintptr, unix.Errno) {
		return unix.Syscall6(unix.SYS_FACCESSAT2, uintptr(fd), uintptr(unsafe.Pointer(&empty)), uintptr(mode),
			unix.AT_EACCESS|unix.AT_EMPTY_PATH, 0, 0)
	})
	if errno != 0 {
		return errno
	}
	return nil
}
