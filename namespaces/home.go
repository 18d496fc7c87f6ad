package namespaces

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrLeftNamespaces says that a job's first process has left the namespaces that it was started in.
var ErrLeftNamespaces = errors.New("the job's first process has left the namespaces that it was started in")

// CheckNamespaces fails if a job's first process is in other namespaces than those that it was given;
// it wraps [ErrStrayed] then. The process is the user's, who may make a user namespace and in
// it all others at any time, and is root there. Where it is then is of the user's making: its
// mounts, its root, its network, its queues. There is no way back; so whoever has got at
// something by the process, by /proc/PID/root or /proc/PID/ns, asks afterwards, and knows
// that it was the job's. userNS says that the job was given a user namespace of its own.
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
	if err := checkAlive(process); err != nil { // else its number may be somebody else's
		return fmt.Errorf("process %d, the job's first: %w", pid, err)
	}
	return checkOwners(doors, userNS)
}
