package network

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"

	"github.com/migrate-hpc/migrate/namespaces/network/classifier"
)

// lockPriority tells our rule from those that a job, which is root in its network, may have made.
const lockPriority = 0xc114

// restoreMark is on the frames by which CRIU tells a restored socket that its peer has ended
// (SOCCR_MARK in soccr/soccr.h). The lock lets them pass.
const restoreMark = 0xc114

// locked drops what the job's sockets send to each other. They take it for a lack of memory, and
// what was not sent stays unsent.
var locked = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtMark},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: restoreMark, SkipTrue: 1},
	bpf.RetConstant{Val: uint32(netlink.TC_ACT_SHOT)},
	bpf.RetConstant{Val: uint32(netlink.TC_ACT_OK)},
}

// UnlockCommand is what a person types where Unlock has failed.
func UnlockCommand(pid int) string {
	return fmt.Sprintf("nsenter --net=/proc/%d/ns/net tc qdisc del dev lo clsact", pid)
}

// HasTCP tells whether there is a TCP socket in the network of the process with this PID.
func HasTCP(pid int) (bool, error) {
	for _, name := range []string{"sockstat", "sockstat6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if errors.Is(err, os.ErrNotExist) && name == "sockstat6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(f[0], "TCP") && f[2] != "0" {
				return true, nil
			}
		}
	}
	return false, nil
}

// Lock closes the loopback of the job with process pid. What a job sends to any address of its own
// passes there. While some of its sockets are saved or made and others are not, a packet to
// one that is missing would reset the connection, or be lost. A second call changes nothing.
//
// The lock belongs to the namespace: it outlives us, and no agent need remember it to Unlock.
// No image has it.
func Lock(pid int) error {
	err := onLoopback(pid, func(lo netlink.Link) error {
		if err := classifier.Allow(lo.Attrs().Index); err != nil {
			return err
		}
		return lockRule(lo).Set()
	})
	if err != nil {
		return fmt.Errorf("close the job's loopback: %w", err)
	}
	return nil
}

// Unlock opens the loopback again. One that is open stays as it is.
func Unlock(pid int) error {
	err := onLoopback(pid, func(lo netlink.Link) error {
		was, err := lockRule(lo).Remove()
		if !was {
			return err
		}
		return classifier.Disallow(lo)
	})
	if err != nil {
		return fmt.Errorf("open the job's loopback: %w", err)
	}
	return nil
}

func lockRule(lo netlink.Link) classifier.Rule {
	return classifier.Rule{Device: lo.Attrs().Index, Place: classifier.Egress, Priority: lockPriority, Program: locked, Direct: true}
}

// errOwn says that a process is no job's, but has the number that one had.
var errOwn = errors.New("the process is in the network of this node")

func onLoopback(pid int, do func(lo netlink.Link) error) error {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	return inNamespace(pid, func() error {
		if now, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || now == own {
			return errors.Join(err, errOwn)
		}
		lo, err := netlink.LinkByName(loopback)
		if err != nil {
			return err
		}
		return do(lo)
	})
}
