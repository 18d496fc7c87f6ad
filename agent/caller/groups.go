package caller

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/linux"
)

// peerGroups returns the supplementary groups of the process at the other end
// of a unix socket (SO_PEERGROUPS, Linux 4.13), which x/sys has no call for.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, errno := linux.Syscall(func() (uintptr, uintptr, unix.Errno) {
			return unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
				uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		})
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && int(size) > len(groups)*4 && size <= 1<<18:
			groups = make([]uint32, size/4)
		default:
			return nil, errors.Join(errors.New("groups of the caller"), errno)
		}
	}
}

// SupplementaryGroups are the supplementary groups that a job runs with. A user namespace of
// root's maps none: root in it has no rights outside.
func SupplementaryGroups(s job.Spec) []uint32 {
	if s.UserNS && s.UID == 0 {
		return nil
	}
	return s.Groups
}

// NotStarted says, in an api.Error, where a job is that could not be started.
const NotStarted = "nothing was started"
