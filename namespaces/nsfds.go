package namespaces

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// nsFD is an open namespace of a job, for setns(2).
type nsFD struct {
	kind string
	flag int
	fd   int
}

// entryOrder is the order in which the namespaces of a job are entered. The user namespace is
// last. After a move the job's cgroup namespace may belong to our user namespace. Only root in
// ours may enter it.
var entryOrder = []nsFD{
	{kind: "cgroup", flag: unix.CLONE_NEWCGROUP}, {kind: "ipc", flag: unix.CLONE_NEWIPC}, {kind: "uts", flag: unix.CLONE_NEWUTS},
	{kind: "net", flag: unix.CLONE_NEWNET}, {kind: "pid", flag: unix.CLONE_NEWPID}, {kind: "time", flag: unix.CLONE_NEWTIME},
	{kind: "mnt", flag: unix.CLONE_NEWNS}, {kind: "user", flag: unix.CLONE_NEWUSER},
}

func openNamespaces(pid int) (doors []nsFD, err error) {
	for _, d := range entryOrder {
		d.fd, err = unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, d.kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return doors, fmt.Errorf("open the %s namespace of process %d, the job's first: %w", d.kind, pid, err)
		}
		doors = append(doors, d)
	}
	return doors, nil
}

func closeNamespaces(doors []nsFD) {
	for _, d := range doors {
		_ = unix.Close(d.fd) // nothing was written
	}
}

// checkOwners refuses namespaces that the job was not started in. The job's user namespace must be
// ours or a child of ours. Each other namespace must belong to one of these two and must not be
// the node's. A namespace that the job's program makes belongs to yet another user namespace: in
// ours it has no rights.
func checkOwners(doors []nsFD, userNS bool) error {
	ours, err := nsIDAt("/proc/self/ns/user")
	if err != nil {
		return err
	}
	user := doors[len(doors)-1]
	its, err := nsIDOf(user.fd)
	if err != nil {
		return err
	}
	if userNS != (its != ours) {
		return leftNamespace("user")
	}
	if userNS {
		if err := checkRelation(user, unix.NS_GET_PARENT, ours); err != nil {
			return err
		}
	}
	for _, d := range doors[:len(doors)-1] {
		if err := checkRelation(d, unix.NS_GET_USERNS, ours, its); err != nil {
			return err
		}
		if err := checkNotNodes(d); err != nil {
			return err
		}
	}
	return nil
}

// checkRelation wants the parent or owner of a namespace, see ioctl_ns(2), to be one of some.
func checkRelation(d nsFD, how uint, some ...nsID) error {
	fd, err := unix.IoctlRetInt(d.fd, how)
	if errors.Is(err, unix.EPERM) {
		return leftNamespace(d.kind) // it is none that we could know
	}
	if err != nil {
		return fmt.Errorf("whose the job's %s namespace is: %w", d.kind, err)
	}
	defer unix.Close(fd)
	is, err := nsIDOf(fd)
	if err != nil {
		return err
	}
	for _, i := range some {
		if is == i {
			return nil
		}
	}
	return leftNamespace(d.kind)
}

// OwnedLike tells whether a namespace of process pid belongs to the user namespace that process like
// is in, and is not the node's.
func OwnedLike(pid int, kind string, like int) (bool, error) {
	door := nsFD{kind: kind}
	var err error
	if door.fd, err = unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return false, fmt.Errorf("open the %s namespace of process %d: %w", kind, pid, err)
	}
	defer unix.Close(door.fd)
	user, err := nsIDAt(fmt.Sprintf("/proc/%d/ns/user", like))
	if err != nil {
		return false, err
	}
	nodes, err := nsIDAt("/proc/self/ns/" + kind)
	if err != nil {
		return false, err
	}
	its, err := nsIDOf(door.fd)
	if err != nil || its == nodes {
		return false, err
	}
	err = checkRelation(door, unix.NS_GET_USERNS, user)
	if errors.Is(err, ErrLeftNamespaces) {
		return false, nil
	}
	return err == nil, err
}

// checkNotNodes refuses a namespace of the node: its process belongs to no job.
func checkNotNodes(d nsFD) error {
	ours, err := nsIDAt("/proc/self/ns/" + d.kind)
	if err != nil {
		return err
	}
	its, err := nsIDOf(d.fd)
	if err == nil && its == ours {
		err = fmt.Errorf("the job's first process is in the node's %s namespace", d.kind)
	}
	return err
}

func leftNamespace(kind string) error {
	return fmt.Errorf("%w (its %s namespace is another)", ErrLeftNamespaces, kind)
}

// nsID identifies a namespace.
type nsID struct{ dev, ino uint64 }

func nsIDOf(fd int) (nsID, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return nsID{st.Dev, st.Ino}, err
}

func nsIDAt(path string) (nsID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nsID{}, fmt.Errorf("%s: %w", path, err)
	}
	return nsID{st.Dev, st.Ino}, nil
}

// inNamespacesOf refuses a first process that is not in the namespaces of stage one. Both are
// children of this process.
func (p *Process) inNamespacesOf(stageOne int, userNS bool) error {
	doors, err := openNamespaces(p.Pid)
	defer closeNamespaces(doors)
	if err != nil {
		return err
	}
	if err := linux.Alive(p.fd); err != nil {
		return err
	}
	for _, d := range doors {
		if d.kind == "pid" || d.kind == "time" { // of children only
			continue
		}
		is, err1 := nsIDOf(d.fd)
		want, err2 := nsIDAt(fmt.Sprintf("/proc/%d/ns/%s", stageOne, d.kind))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if is != want {
			return leftNamespace(d.kind)
		}
	}
	return checkOwners(doors, userNS)
}

// CheckNamespaces fails if a job's first process is not in the namespaces that the job was given.
// The error wraps [ErrLeftNamespaces]. userNS says that the job was given a user namespace.
//
// The process belongs to the user. It may make a user namespace at any time, and in it all others,
// as root. Mounts, root, network and queues there are of the user's making. A process cannot come
// back. So a caller first reads through /proc/PID/root or /proc/PID/ns, and checks afterwards.
func CheckNamespaces(pid int, userNS bool) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("process %d, the job's first: %w", pid, err)
	}
	defer unix.Close(process)
	var doors []nsFD
	defer func() { closeNamespaces(doors) }()
	for _, d := range entryOrder {
		d.fd, err = unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, d.kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open the %s namespace of process %d, the job's first: %w", d.kind, pid, err)
		}
		doors = append(doors, d)
	}
	if err := linux.Alive(process); err != nil { // else its pid may have been reused
		return fmt.Errorf("process %d, the job's first: %w", pid, err)
	}
	return checkOwners(doors, userNS)
}

// ErrLeftNamespaces says that a job's first process has left the namespaces that it was started
// in.
var ErrLeftNamespaces = errors.New("the job's first process has left the namespaces that it was started in")
