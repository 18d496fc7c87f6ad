package calls

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
)

// call is a system call as the kernel shows it: the arguments are those of [image.Call].
type call struct {
	number uint64
	args   [4]uint64
	ip     uint64
}

// limit is where a call has its limit of time, as long as that counts from the call's beginning.
type limit struct {
	arg   int  // which argument it is
	milli bool // in milliseconds, as an int; else a pointer to a timespec
	rest  int  // which argument points to where the kernel writes what is left; 0: nowhere
}

// noArg is the index of no argument.
const noArg = -1

// limitOf tells where a call has its limit; false if it has none, or one that is a point in time.
func limitOf(number uint64, args [4]uint64) (limit, bool) {
	switch number {
	case unix.SYS_POLL:
		return limit{arg: 2, milli: true}, int32(args[2]) >= 0
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		return limit{arg: 3, milli: true}, int32(args[3]) >= 0
	case unix.SYS_NANOSLEEP:
		return limit{arg: 0, rest: 1}, true
	case unix.SYS_CLOCK_NANOSLEEP:
		return limit{arg: 2, rest: 3}, args[1]&unix.TIMER_ABSTIME == 0
	case unix.SYS_RT_SIGTIMEDWAIT:
		return limit{arg: 2}, args[2] != 0
	case unix.SYS_SEMTIMEDOP, unix.SYS_EPOLL_PWAIT2:
		return limit{arg: 3}, args[3] != 0
	case unix.SYS_FUTEX:
		return limit{arg: 3}, args[1]&futexCommand == futexWait && args[3] != 0
	}
	return limit{}, false
}

const (
	futexCommand = 0x7f
	futexWait    = 0
)

// mayRepeat are the calls that say EINTR after a stop and have done nothing yet.
func mayRepeat(number uint64) bool {
	switch number {
	case unix.SYS_POLL, unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2,
		unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_FUTEX, unix.SYS_FUTEX_WAITV,
		unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP,
		unix.SYS_READ, unix.SYS_READV, unix.SYS_WRITE, unix.SYS_WRITEV,
		unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT, unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS:
		return true
	}
	return false
}

// sleeps tells a sleep on a clock that goes on by itself, and not with the processor's time.
func sleeps(number uint64, args [4]uint64) bool {
	if number != unix.SYS_CLOCK_NANOSLEEP {
		return number == unix.SYS_NANOSLEEP
	}
	switch int32(args[0]) {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI:
		return true
	}
	return false
}

// again says how a call goes on that has a limit, with this much time left. need is the argument that
// must point to a timespec of that, noArg if the registers say all.
func (l limit) again(c image.Call, left time.Duration) (a image.Again, need int) {
	a = image.Again{Number: c.Number, Args: c.Args}
	milli := milliseconds(left)
	switch {
	case l.milli:
		a.Args[l.arg] = milli
	case l.rest != 0 && sleeps(c.Number, c.Args) && !c.Filtered && milli < math.MaxInt32:
		return image.Again{Number: unix.SYS_POLL, Args: [4]uint64{0, 0, milli}}, noArg
	case l.rest != 0 && c.Args[l.rest] != 0:
		a.Args[l.arg] = c.Args[l.rest]
	case c.Number == unix.SYS_FUTEX:
		return a, l.arg
	}
	return a, noArg // from its beginning, if its limit is in memory
}

// milliseconds rounds up: nothing ends early.
func milliseconds(d time.Duration) uint64 {
	return uint64(min(max(0, (d+time.Millisecond-1)/time.Millisecond), math.MaxInt32))
}
