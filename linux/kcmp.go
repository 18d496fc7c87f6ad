package linux

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epollSlot is struct kcmp_epoll_slot of linux/kcmp.h.
type epollSlot struct{ epoll, watched, nth uint32 }

// IsWatched tells whether descriptor fd of process pid is what an epoll of the same process watches
// under a number: the nth of those that it watches under that number, from 0. The number may lead
// elsewhere by now. It is kcmp(2), which touches nothing. A kernel without CONFIG_KCMP says ENOSYS.
func IsWatched(pid, fd, epoll, watched, nth int) (bool, error) {
	const kcmpEpoll = 7 // KCMP_EPOLL_TFD
	slot := &epollSlot{uint32(epoll), uint32(watched), uint32(nth)}
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(pid), kcmpEpoll, uintptr(fd), uintptr(unsafe.Pointer(slot)), 0)
	runtime.KeepAlive(slot)
	if errno != 0 {
		return false, errno
	}
	return order == 0, nil
}
