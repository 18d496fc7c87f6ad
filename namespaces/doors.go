package namespaces

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// door leads into one namespace of a job: a descriptor for setns(2).
type door struct {
	kind string
	flag int
	fd   int
}

// doorways is the order in which a visitor enters. The user namespace is the last:
// what a move has brought here may be in a cgroup namespace that belongs to ours,
// and only who is root in ours gets into it.
var doorways = []door{
	{kind: "cgroup", flag: unix.CLONE_NEWCGROUP}, {kind: "ipc", flag: unix.CLONE_NEWIPC}, {kind: "uts", flag: unix.CLONE_NEWUTS},
	{kind: "net", flag: unix.CLONE_NEWNET}, {kind: "pid", flag: unix.CLONE_NEWPID}, {kind: "time", flag: unix.CLONE_NEWTIME},
	{kind: "mnt", flag: unix.CLONE_NEWNS}, {kind: "user", flag: unix.CLONE_NEWUSER},
}

// visited is a job as a visitor finds it.
type visited struct {
	doors []door
	likeness
}

// lookAt opens the namespaces of a job's first process, each once, and looks at what it has
// opened. The process is the user's: it may unshare further whenever it likes, and rules
// over the namespaces that it makes then. Its number may be another's by now, so that it is
// held, and looked for in the job's cgroup, which it cannot leave. After an error the caller
// ends, and what is open with it.
func lookAt(v ExecSpec) (job visited, err error) {
	process, err := unix.PidfdOpen(v.Init, 0)
	if err != nil {
		return job, fmt.Errorf("process %d, the job's first: %w", v.Init, err)
	}
	job.doors, err = openDoors(v.Init)
	if err != nil {
		return job, err
	}
	if job.likeness, err = likenessOf(v.Init); err != nil {
		return job, err
	}
	if err := alive(process); err != nil { // else its number may be somebody else's
		return job, fmt.Errorf("process %d, the job's first: %w", v.Init, err)
	}
	for h, dir := range v.Cgroup {
		if is := job.cgroups[h]; is != dir && !strings.HasPrefix(is, dir+"/") {
			return job, fmt.Errorf("process %d is none of the job's: it is not in cgroup %s", v.Init, dir)
		}
		job.cgroups[h] = dir
	}
	return job, errors.Join(examine(job.doors, v.UserNS), unix.Close(process))
}

func openDoors(pid int) (doors []door, err error) {
	for _, d := range doorways {
		d.fd, err = unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, d.kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return doors, fmt.Errorf("open the %s namespace of process %d, the job's first: %w", d.kind, pid, err)
		}
		doors = append(doors, d)
	}
	return doors, nil
}

func closeDoors(doors []door) {
	for _, d := range doors {
		_ = unix.Close(d.fd) // nothing was written
	}
}

// alive returns ESRCH if the process of a pidfd has ended.
func alive(pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n > 0:
			return unix.ESRCH
		}
		return err
	}
}

// examine refuses namespaces that are not those which the job was started in: its
// user namespace is ours or a child of ours, and each other one is of its own and
// belongs to one of these two. Whatever the job's program can make belongs to another
// one, for in ours it has no rights, or is root in it.
func examine(doors []door, userNS bool) error {
	ours, err := instanceAt("/proc/self/ns/user")
	if err != nil {
		return err
	}
	user := doors[len(doors)-1]
	its, err := instanceOf(user.fd)
	if err != nil {
		return err
	}
	if userNS != (its != ours) {
		return strayed("user")
	}
	if userNS {
		if err := related(user, unix.NS_GET_PARENT, ours); err != nil {
			return err
		}
	}
	for _, d := range doors[:len(doors)-1] {
		if err := related(d, unix.NS_GET_USERNS, ours, its); err != nil {
			return err
		}
		if err := apart(d); err != nil {
			return err
		}
	}
	return nil
}

// related wants a namespace's parent or owner, see ioctl_ns(2), to be one of some.
func related(d door, how uint, some ...instance) error {
	fd, err := unix.IoctlRetInt(d.fd, how)
	if errors.Is(err, unix.EPERM) {
		return strayed(d.kind) // it is none that we could know
	}
	if err != nil {
		return fmt.Errorf("whose the job's %s namespace is: %w", d.kind, err)
	}
	defer unix.Close(fd)
	is, err := instanceOf(fd)
	if err != nil {
		return err
	}
	for _, i := range some {
		if is == i {
			return nil
		}
	}
	return strayed(d.kind)
}

// apart wants a namespace not to be ours: the process would be none of a job.
func apart(d door) error {
	ours, err := instanceAt("/proc/self/ns/" + d.kind)
	if err != nil {
		return err
	}
	its, err := instanceOf(d.fd)
	if err == nil && its == ours {
		err = fmt.Errorf("the job's first process is in the node's %s namespace", d.kind)
	}
	return err
}

func strayed(kind string) error {
	return fmt.Errorf("%w (its %s namespace is another)", ErrStrayed, kind)
}

// instance tells namespaces apart.
type instance struct{ dev, ino uint64 }

func instanceOf(fd int) (instance, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return instance{st.Dev, st.Ino}, err
}

func instanceAt(path string) (instance, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return instance{}, fmt.Errorf("%s: %w", path, err)
	}
	return instance{st.Dev, st.Ino}, nil
}

// inNamespacesOf refuses a first process of a job that is not where stage one is, in
// namespaces of the job's own. Both are children of ours.
func (p *Process) inNamespacesOf(stageOne int, userNS bool) error {
	doors, err := openDoors(p.Pid)
	defer closeDoors(doors)
	if err != nil {
		return err
	}
	if err := alive(p.fd); err != nil {
		return err
	}
	for _, d := range doors {
		if d.kind == "pid" || d.kind == "time" { // of children only
			continue
		}
		is, err1 := instanceOf(d.fd)
		want, err2 := instanceAt(fmt.Sprintf("/proc/%d/ns/%s", stageOne, d.kind))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if is != want {
			return strayed(d.kind)
		}
	}
	return examine(doors, userNS)
}
