package conflict

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// question is how one family asks for an address.
type question struct {
	protocol int // EtherType
	to       net.HardwareAddr
	packet   []byte
	// concerns tells whether the sender of a packet has the address, or asks for it too.
	concerns func(packet []byte) bool
	filter   []bpf.RawInstruction // what else the node receives does not crowd out an answer
}

// askARP is an ARP probe: its sender has no address yet, so that no host learns one.
func askARP(own net.HardwareAddr, a netip.Addr) (question, error) {
	p, err := arp.NewPacket(arp.OperationRequest, own, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), a)
	if err != nil {
		return question{}, err
	}
	data, err := p.MarshalBinary()
	concerns := func(data []byte) bool {
		var p arp.Packet
		return p.UnmarshalBinary(data) == nil && (p.SenderIP == a || p.SenderIP == netip.IPv4Unspecified() && p.TargetIP == a)
	}
	return question{protocol: unix.ETH_P_ARP, to: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, packet: data, concerns: concerns}, err
}

// Of an IPv6 header.
const (
	ip6Header          = 40 // bytes
	ip6Next, ip6Source = 6, 8
	hopLimit           = 255
)

// askNDP is a neighbour solicitation of a host that has no address yet. A host with the address
// answers to all nodes.
func askNDP(_ net.HardwareAddr, a netip.Addr) (question, error) {
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return question{}, err
	}
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: a}, netip.IPv6Unspecified(), group)
	if err != nil {
		return question{}, err
	}
	data := make([]byte, ip6Header, ip6Header+len(body))
	data[0], data[ip6Next], data[7] = 6<<4, unix.IPPROTO_ICMPV6, hopLimit
	binary.BigEndian.PutUint16(data[4:], uint16(len(body)))
	copy(data[24:], group.AsSlice())
	g := group.As16()
	to := net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]} // RFC 2464
	filter, err := bpf.Assemble(discovery)
	concerns := func(data []byte) bool { return concernsNDP(data, a) }
	return question{protocol: unix.ETH_P_IPV6, to: to, packet: append(data, body...), concerns: concerns, filter: filter}, err
}

func concernsNDP(data []byte, a netip.Addr) bool {
	if len(data) < ip6Header || data[ip6Next] != unix.IPPROTO_ICMPV6 {
		return false
	}
	m, err := ndp.ParseMessage(data[ip6Header:])
	if err != nil {
		return false
	}
	switch m := m.(type) {
	case *ndp.NeighborAdvertisement:
		return m.TargetAddress == a
	case *ndp.NeighborSolicitation:
		from := netip.AddrFrom16([16]byte(data[ip6Source:]))
		return m.TargetAddress == a && from == netip.IPv6Unspecified()
	}
	return false
}

// discovery takes ICMPv6 of types 135 and 136.
var discovery = []bpf.Instruction{
	bpf.LoadAbsolute{Off: ip6Next, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 4},
	bpf.LoadAbsolute{Off: ip6Header, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 135, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 136, SkipTrue: 1},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
}
