package preflight

import (
	"strings"

	"golang.org/x/sys/unix"
)

const devZeroMinor = 5 // of major 1: mapping it is one way to ask for plain memory

func (j *jobFacts) judgeMapped(r *report, t task, m mapping) {
	switch {
	case m.Link == "[uprobes]":
		r.add(Uprobes, "end the tracing of the program on this node (`ps -C perf,bpftrace,stapio` finds it), and restart the program",
			"functions of %s are traced by uprobes, which have put code of their own into it", t)
	case m.Mode == 0: // a kernel area
	case m.kind() == unix.S_IFCHR && m.RdevMajor == 1 && m.RdevMinor == devZeroMinor:
	case m.kind() == unix.S_IFCHR || m.kind() == unix.S_IFBLK:
		code, what, remedy := deviceKind(m.Link, m.inode)
		if code == DeviceOpen {
			code = DeviceMapped
		}
		r.add(code, remedy, "%s has memory of %s mapped: %s. What a device holds for a program cannot be carried to another node", t, what, m.Link)
	case strings.HasPrefix(m.Link, "anon_inode:"):
		j.judgeAnonymous(r, t, descriptor{file: m.file, Number: -1})
	case strings.HasPrefix(m.Link, "/[aio]"), strings.HasPrefix(m.Link, "socket:["):
	case m.kind() == unix.S_IFREG && strings.HasPrefix(m.Link, "/"):
		j.judgeFile(r, t, m.file)
	default:
		r.add(DeviceMapped, "run the program without that feature",
			"%s has %s mapped, which is neither a file nor plain memory and cannot be saved", t, m.Link)
	}
}
