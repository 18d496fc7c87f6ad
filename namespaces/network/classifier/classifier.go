// Package classifier puts classic BPF programs where the frames of a device pass. They need no other
// module than sch_ingress and cls_bpf (net/sched/cls_bpf.c), belong to the device, and outlive the
// process that has put them there.
package classifier

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where a program looks at frames.
const (
	Ingress = netlink.HANDLE_MIN_INGRESS
	Egress  = netlink.HANDLE_MIN_EGRESS
)

// Rule is a program at one of a device's two places. It is known by the place and the priority. The
// lower priority comes first. A frame for which it returns 0 goes on to the next rule; any other is
// let in.
type Rule struct {
	Device   int // index
	Place    uint32
	Priority uint16
	Program  []bpf.Instruction
	// Direct has the program return the action itself, TC_ACT_OK for example.
	Direct bool
}

// Allow makes rules possible on a device. A second call changes nothing.
func Allow(device int) error {
	if err := netlink.QdiscReplace(clsact(device)); err != nil {
		return fmt.Errorf("the kernel has no clsact queueing discipline (module sch_ingress, CONFIG_NET_SCH_INGRESS), or the device has another one: %w", err)
	}
	return nil
}

// Disallow takes back what Allow did, unless the device has rules.
func Disallow(device netlink.Link) error {
	for _, place := range []uint32{Ingress, Egress} {
		rules, err := netlink.FilterList(device, place)
		if err != nil || len(rules) > 0 {
			return err
		}
	}
	return netlink.QdiscDel(clsact(device.Attrs().Index))
}

func clsact(device int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: device, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
}

// Set adds the rule, or replaces the one that is there.
func (r Rule) Set() error {
	raw, err := bpf.Assemble(r.Program)
	if err != nil {
		return err
	}
	ops := make([]byte, 0, 8*len(raw)) // struct sock_filter, include/uapi/linux/filter.h
	for _, i := range raw {
		ops = binary.NativeEndian.AppendUint16(ops, i.Op)
		ops = append(ops, i.Jt, i.Jf)
		ops = binary.NativeEndian.AppendUint32(ops, i.K)
	}
	var flags uint32
	if r.Direct {
		flags = nl.TCA_BPF_FLAG_ACT_DIRECT
	}
	req := r.request(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE)
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(raw))))
	options.AddRtAttr(nl.TCA_BPF_OPS, ops)
	options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(flags))
	req.AddData(options)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("the kernel takes no classic BPF classifier (module cls_bpf, CONFIG_NET_CLS_BPF): %w", err)
	}
	return nil
}

// Remove takes the rule away, and says whether it was there.
func (r Rule) Remove() (was bool, err error) {
	_, err = r.request(unix.RTM_DELTFILTER, 0).Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // the device takes no rules
		return false, nil
	}
	return err == nil, err
}

func (r Rule) request(what, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(what, flags|unix.NLM_F_ACK)
	req.AddData(&nl.TcMsg{
		Family: nl.FAMILY_ALL, Ifindex: int32(r.Device), Handle: 1, Parent: r.Place,
		Info: netlink.MakeHandle(r.Priority, nl.Swap16(unix.ETH_P_ALL)),
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bpf")))
	return req
}
