package antispoof

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/network/classifier"
	"github.com/migrate-hpc/migrate/osthread"
)

// Priorities of the two rules, the lower first.
const (
	allowPriority = 1
	dropPriority  = 2
)

// Install has the node's end of a job's veth pair take in only what the job may send. A second
// call changes nothing.
func Install(device netlink.Link, id Identity) error {
	name := device.Attrs().Name
	rules, err := program(id)
	if err != nil {
		return fmt.Errorf("filter of %s: %w", name, err)
	}
	index := device.Attrs().Index
	if err := classifier.Allow(index); err != nil {
		return fmt.Errorf("filter of %s: %w", name, err)
	}
	shot := code{bpf.RetConstant{Val: uint32(netlink.TC_ACT_SHOT)}}
	for _, r := range []classifier.Rule{
		{Device: index, Place: classifier.Ingress, Priority: dropPriority, Program: shot, Direct: true},
		{Device: index, Place: classifier.Ingress, Priority: allowPriority, Program: join(untagged(), rules)},
	} {
		if err := r.Set(); err != nil {
			return fmt.Errorf("filter of %s: %w", name, err)
		}
	}
	return nil
}

// Usable tells whether the kernel has what Install needs. It tries Install in a network namespace
// made for that.
func Usable() error {
	return osthread.Throwaway(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return Install(lo, Identity{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Address: netip.IPv6LinkLocalAllNodes()})
	})
}
