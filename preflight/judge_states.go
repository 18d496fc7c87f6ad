package preflight

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// tooLong stands for a path of more than 4095 bytes, which the kernel does not tell.
const tooLong = "a path of more than 4095 bytes"

// Clocks whose timers wake a node that sleeps, see timerfd_create(2).
const (
	realtimeAlarm = 8
	boottimeAlarm = 9
)

// judgeState is for states of things that move otherwise, and in which CRIU refuses them when the
// job is frozen.
func judgeState(r *report, t task, d descriptor) {
	closeIt := fmt.Sprintf(closeIt, t.Host)
	switch {
	case d.Link == tooLong:
		r.add(PathTooLong, closeIt+", or have shorter names of directories", "%s holds a file at %s (descriptor %d), which no program can name", t, tooLong, d.Number)
	case strings.HasPrefix(d.Link, "pipe:[") && d.Flags&unix.O_DIRECT != 0:
		r.add(PacketPipe, closeIt+", or have the program make it without O_DIRECT: a socket pair of type SOCK_SEQPACKET keeps messages apart, too",
			"%s has a pipe in packet mode (descriptor %d), which cannot be saved", t, d.Number)
	case d.Clock == realtimeAlarm || d.Clock == boottimeAlarm:
		r.add(AlarmTimer, closeIt+", or have the program make it of a clock without _ALARM",
			"%s has a timer that wakes the node from sleep (descriptor %d), which cannot be saved", t, d.Number)
	case d.Unread:
		r.add(SocketUnread, "move it again when the program has read it, or close the socket; `ss -f netlink -p` on this node shows it",
			"%s has not read what the kernel answered in a netlink socket (descriptor %d), which cannot be saved", t, d.Number)
	}
}

// judgeCovered finds a file that has its name on a mount that lies under another one.
func (v mountView) judgeCovered(r *report, t task, f file) {
	m, nested, ok := v.find(f.Mount)
	if !ok || !strings.HasPrefix(f.Link, "/") {
		return
	}
	among := v
	if nested != nil {
		among.mounts = nested.mounts
	}
	top, ok := among.mountOf(f.path())
	if !ok || top.ID == m.ID {
		return
	}
	r.add(FileCovered, "close it, or take the mount away: `umount "+quoted(top.Target)+"` inside the job",
		"%s holds %s, and the mount at %s lies over that name: it could not be opened again", t, f.path(), top.Target)
}
