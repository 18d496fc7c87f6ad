package antispoof

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

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
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscReplace(qdisc); err != nil {
		return fmt.Errorf("filter of %s: the kernel has no clsact queueing discipline (module sch_ingress, CONFIG_NET_SCH_INGRESS): %w", name, err)
	}
	shot := code{bpf.RetConstant{Val: uint32(netlink.TC_ACT_SHOT)}}
	if err := setRule(index, dropPriority, shot, nl.TCA_BPF_FLAG_ACT_DIRECT); err != nil {
		return fmt.Errorf("filter of %s: the kernel takes no classic BPF classifier (module cls_bpf, CONFIG_NET_CLS_BPF): %w", name, err)
	}
	if err := setRule(index, allowPriority, join(untagged(), rules), 0); err != nil {
		return fmt.Errorf("filter of %s: %w", name, err)
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

// setRule replaces the classifier of that priority. A frame for which it returns 0 goes on to the
// next; without actions, any other is let in. With TCA_BPF_FLAG_ACT_DIRECT the return value is the
// action.
func setRule(index int, priority uint16, rule code, flags uint32) error {
	raw, err := bpf.Assemble(rule)
	if err != nil {
		return err
	}
	ops := make([]byte, 0, 8*len(raw)) // struct sock_filter, include/uapi/linux/filter.h
	for _, r := range raw {
		ops = binary.NativeEndian.AppendUint16(ops, r.Op)
		ops = append(ops, r.Jt, r.Jf)
		ops = binary.NativeEndian.AppendUint32(ops, r.K)
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_ACK)
	req.AddData(&nl.TcMsg{
		Family: nl.FAMILY_ALL, Ifindex: int32(index), Handle: 1, Parent: netlink.HANDLE_MIN_INGRESS,
		Info: netlink.MakeHandle(priority, nl.Swap16(unix.ETH_P_ALL)),
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bpf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(raw))))
	options.AddRtAttr(nl.TCA_BPF_OPS, ops)
	options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(flags))
	req.AddData(options)
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
