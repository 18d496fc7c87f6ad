package antispoof

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Identity is what a job may send frames as.
type Identity struct {
	MAC     net.HardwareAddr
	Address netip.Addr
}

// LinkLocal is the IPv6 address that the kernel makes of a MAC (RFC 4291, appendix A).
func LinkLocal(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// Offsets in a frame, in bytes.
const (
	source  = 6
	kind    = 12 // EtherType
	network = 14 // header

	arpKind, arpSizes, arpOp   = network, network + 4, network + 6
	arpMAC, arpFrom, arpTarget = network + 8, network + 14, network + 24

	ip4Fragment, ip4Protocol, ip4From = network + 6, network + 9, network + 12

	ip6Next, ip6From = network + 6, network + 8
	ip6Payload       = network + 40
	extension        = 8 // bytes of a fragment header, and of a hop-by-hop one with a router alert
)

// What a router, server or querier says; clients do not listen to others.
const (
	dhcpClient, dhcp6Client = 68, 546 // ports

	icmpRedirect, icmpRouter = 5, 9
	igmpQuery                = 0x11

	mldReport, mldDone, mldReport2                              = 131, 132, 143
	routerAdvertisement, solicitation, advertisement, redirect6 = 134, 135, 136, 137
)

// program allows what the job may send, and drops the rest.
func program(id Identity) (code, error) {
	if len(id.MAC) != 6 || !id.Address.IsValid() || id.Address.Is4In6() {
		return nil, fmt.Errorf("a port needs a MAC and an address, and has %q and %s", id.MAC, id.Address)
	}
	own := []netip.Addr{LinkLocal(id.MAC)}
	var four code
	if id.Address.Is4() {
		four = join(at(kind, 2).when(unix.ETH_P_ARP, arp(id)), at(kind, 2).when(unix.ETH_P_IP, ip4(id.Address)))
	} else {
		own = append(own, id.Address)
	}
	return join(whenBytes(source, id.MAC, join(four, at(kind, 2).when(unix.ETH_P_IPV6, ip6(own)))), drop), nil
}

// untagged drops frames with a VLAN tag, which the kernel keeps beside the frame.
func untagged() code {
	return join(code{bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}}, drop)
}

// arp is the rest of a program for ARP (RFC 826). The job announces its own address, or asks
// whether it is free (RFC 5227).
func arp(id Identity) code {
	probe := at(arpOp, 2).when(1, whenBytes(arpTarget, id.Address.AsSlice(), allow))
	return join(
		at(arpKind, 4).unless(1<<16|unix.ETH_P_IP, drop), // Ethernet, IPv4
		at(arpSizes, 2).unless(6<<8|4, drop),
		whenBytes(arpMAC, id.MAC, join(
			whenBytes(arpFrom, id.Address.AsSlice(), allow),
			at(arpFrom, 4).when(0, probe))),
		drop)
}

func ip4(own netip.Addr) code {
	return join(
		whenBytes(ip4From, own.AsSlice(), join(
			at(ip4Fragment, 2).mask(0x1fff).unless(0, allow), // what it goes on with was looked at
			at(ip4Protocol, 1).when(unix.IPPROTO_UDP, behindIPv4(2, 2).when(dhcpClient, drop)),
			at(ip4Protocol, 1).when(unix.IPPROTO_ICMP, behindIPv4(0, 1).oneOf([]uint32{icmpRedirect, icmpRouter}, drop)),
			at(ip4Protocol, 1).when(unix.IPPROTO_IGMP, behindIPv4(0, 1).when(igmpQuery, drop)),
			allow)),
		drop)
}

// ip6 knows the protocols that jobs use, so that nothing hides behind a header that is not parsed
// (RFC 7113).
func ip6(own []netip.Addr) code {
	next, mine := at(ip6Next, 1), whenAddr(ip6From, own, allow)
	unspecified := func(then code) code { return whenAddr(ip6From, []netip.Addr{netip.IPv6Unspecified()}, then) }
	groups := at(ip6Payload+extension, 1).oneOf([]uint32{mldReport, mldDone, mldReport2}, join(mine, unspecified(allow)))
	return join(
		next.when(unix.IPPROTO_TCP, join(mine, drop)),
		next.when(unix.IPPROTO_UDP, join(at(ip6Payload+2, 2).when(dhcp6Client, drop), mine, drop)),
		next.when(unix.IPPROTO_ICMPV6, join(icmp6(own, mine, unspecified), drop)),
		next.when(unix.IPPROTO_SCTP, join(mine, drop)),
		next.when(unix.IPPROTO_HOPOPTS, join(at(ip6Payload, 2).when(unix.IPPROTO_ICMPV6<<8, groups), drop)),
		next.when(unix.IPPROTO_FRAGMENT, join(fragment(mine), drop)),
		drop)
}

func icmp6(own []netip.Addr, mine code, unspecified func(code) code) code {
	target := whenAddr(ip6Payload+8, own, allow) // of a solicitation, and of an advertisement
	kind := at(ip6Payload, 1)
	return join(
		kind.oneOf([]uint32{routerAdvertisement, redirect6}, drop),
		kind.when(advertisement, join(whenAddr(ip6From, own, target), drop)),
		kind.when(solicitation, unspecified(target)),
		mine)
}

// fragment allows fragments of protocols whose first fragment tells what they are. Neighbour
// discovery ignores fragments (RFC 6980), but old hosts do not know that.
func fragment(mine code) code {
	next := at(ip6Payload, 1)
	first := at(ip6Payload+2, 2).mask(0xfff8)
	return join(
		next.when(unix.IPPROTO_TCP, mine),
		next.when(unix.IPPROTO_SCTP, mine),
		next.when(unix.IPPROTO_UDP, join(first.when(0, at(ip6Payload+extension+2, 2).when(dhcp6Client, drop)), mine)))
}
