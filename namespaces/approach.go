package namespaces

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// approach brings a visitor into a job and ends as it does:
//
//	agent ── approach ── first child: cgroup, namespaces
//	             └─ CLONE_PARENT ─ second child, born in the pid namespace: ids, then
//	                               this program again as inside, then the command
//
// Nothing is looked up by a path once the job's mount namespace is entered, for what
// is mounted there is the user's choice. And no process is in sight of the job that
// the job's root could trace and that has more rights than the job: the first child
// is in no pid namespace of the job, the second is not dumpable until its ids are the
// job's.
func approach() error {
	runtime.LockOSThread()
	v, err := readVisit()
	if err != nil {
		return err
	}
	doors, err := openDoors(v.Target, v.UserNS)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p := plan{trouble: int(w.Fd())}
	if err := p.visit(v, doors, int(r.Fd())); err != nil {
		return err
	}
	pid, err := p.fork(0)
	if err != nil {
		return err
	}
	closeDoors(doors)
	_ = w.Close() // the children's end is another
	why := p.heed(r)
	ws, err := follow(pid)
	if err := errors.Join(why, err); err != nil {
		return err
	}
	unix.Exit(exitCode(syscall.WaitStatus(ws))) // os.Exit takes a second with the race detector
	return nil
}

// visit plans the two children. unheard is the reading end of the pipe for failures,
// which only their starter keeps.
func (p *plan) visit(v Visit, doors []door, unheard int) error {
	p.add(do("close a pipe", unix.SYS_CLOSE, unheard), do("become undumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0))
	p.tie()
	if err := p.enterCgroup(v.Cgroup); err != nil {
		return err
	}
	for _, d := range doors {
		if d.kind != "user" || v.UserNS {
			p.add(do("enter the job's "+d.kind+" namespace", unix.SYS_SETNS, d.fd, d.flag))
		}
	}
	p.add(do("fork in the job, which may have ended", unix.SYS_CLONE, unix.CLONE_PARENT|int(unix.SIGCHLD)))
	p.tie()
	groups := do("set groups", unix.SYS_SETGROUPS, len(v.Groups))
	groups.mem[1] = unsafe.Pointer(unsafe.SliceData(v.Groups))
	p.add(groups, do(fmt.Sprintf("set group %d", v.GID), unix.SYS_SETGID, int(v.GID)), do(fmt.Sprintf("set user %d", v.UID), unix.SYS_SETUID, int(v.UID)))
	p.tie() // a change of uid takes it back
	config, err := memfile(v)
	if err != nil {
		return err
	}
	self, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return p.startAgain(insideName, config, self)
}

// tie has a child end with its starter, also if that has ended before.
func (p *plan) tie() {
	heard := do("look for its starter", unix.SYS_POLL, 0, 1, 0)
	heard.mem[0] = unsafe.Pointer(&unix.PollFd{Fd: int32(p.trouble)}) // POLLERR if nobody reads
	p.add(do("end with its starter", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL)), heard)
}

// enterCgroup is a child's way into the job's cgroup. That comes before the namespaces:
// who freezes the job must see everybody who could come in.
func (p *plan) enterCgroup(dirs map[string]string) error {
	for _, dir := range dirs {
		path := filepath.Join(dir, "cgroup.procs")
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("enter cgroup: %w", &os.PathError{Op: "open", Path: path, Err: err})
		}
		zero := []byte("0") // whoever writes it
		s := do("enter cgroup "+dir, unix.SYS_WRITE, fd, 0, len(zero))
		s.mem[1], s.want = unsafe.Pointer(&zero[0]), uintptr(len(zero))
		p.add(s)
	}
	return nil
}

// heed returns when the last child has executed something, or why it has not. One
// that was killed says nothing.
func (p *plan) heed(r *os.File) error {
	var f failure
	if err := binary.Read(r, binary.NativeEndian, &f); err != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", p.steps[f[0]].what, syscall.Errno(f[1]))
}

// follow waits for the first child, then for the second, if there is one, and returns
// how the last one ended.
func follow(first int) (unix.WaitStatus, error) {
	ws, err := wait4(first)
	if err == nil && ws == 0 {
		ws, err = wait4(-1)
	}
	return ws, err
}

func wait4(pid int) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err != unix.EINTR {
			return ws, err
		}
	}
}
