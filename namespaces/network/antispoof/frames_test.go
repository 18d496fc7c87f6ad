package antispoof

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

var (
	ownMAC, otherMAC = mac("02:00:00:00:03:07"), mac("02:00:00:00:03:08")
	everybody        = mac("ff:ff:ff:ff:ff:ff")

	own4, other4, none4 = netip.MustParseAddr("10.3.0.7"), netip.MustParseAddr("10.3.0.8"), netip.IPv4Unspecified()
	own6, other6, none6 = netip.MustParseAddr("fd00:3::7"), netip.MustParseAddr("fd00:3::8"), netip.IPv6Unspecified()
	local, otherLocal   = LinkLocal(ownMAC), LinkLocal(otherMAC)
)

func mac(text string) net.HardwareAddr {
	m, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return m
}

// ethernet is a broadcast frame.
func ethernet(from net.HardwareAddr, kind uint16, payload []byte) []byte {
	return to(everybody, from, kind, payload)
}

func to(dst, from net.HardwareAddr, kind uint16, payload []byte) []byte {
	frame := append(slices.Concat(dst, from), 0, 0)
	binary.BigEndian.PutUint16(frame[12:], kind)
	return append(frame, payload...)
}

func arpSays(op uint16, m net.HardwareAddr, from, target netip.Addr) []byte {
	p := []byte{0, 1, 8, 0, 6, 4, 0, byte(op)}
	return ethernet(ownMAC, 0x0806, slices.Concat(p, m, from.AsSlice(), make([]byte, 6), target.AsSlice()))
}

// packet4 has a header of 20 bytes and options beyond it, 4 bytes each.
func packet4(from netip.Addr, protocol byte, fragment uint16, options int, payload ...byte) []byte {
	h := make([]byte, 20+4*options)
	h[0], h[8], h[9] = 0x45+byte(options), 64, protocol
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	copy(h[12:], from.AsSlice())
	copy(h[16:], []byte{255, 255, 255, 255})
	return ethernet(ownMAC, 0x0800, append(h, payload...))
}

func packet6(from netip.Addr, next byte, payload ...byte) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	copy(h[8:], from.AsSlice())
	copy(h[24:], netip.IPv6LinkLocalAllNodes().AsSlice())
	return ethernet(ownMAC, 0x86dd, append(h, payload...))
}

func neighbour(from netip.Addr, kind byte, target netip.Addr) []byte {
	return packet6(from, 58, append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)...)
}

func udp(port byte, high byte) []byte { return []byte{0, 9, high, port, 0, 8, 0, 0} }

// attempt is a frame that a job sends.
type attempt struct {
	name  string
	frame []byte
}

// allowed4 and refused4 are those of a job that has an IPv4 address.
func allowed4() []attempt {
	return []attempt{
		{"ARP request", arpSays(1, ownMAC, own4, other4)},
		{"ARP reply", arpSays(2, ownMAC, own4, other4)},
		{"ARP announcement", arpSays(1, ownMAC, own4, own4)},
		{"ARP probe", arpSays(1, ownMAC, none4, own4)},
		{"TCP", packet4(own4, 6, 0, 0, make([]byte, 20)...)},
		{"UDP", packet4(own4, 17, 0, 0, udp(53, 0)...)},
		{"UDP behind options", packet4(own4, 17, 0, 3, udp(53, 0)...)},
		{"first fragment", packet4(own4, 17, 0x2000, 0, udp(53, 0)...)},
		{"later fragment that looks like DHCP", packet4(own4, 17, 0x0001, 0, udp(68, 0)...)},
		{"ping", packet4(own4, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0)},
		{"IGMP report", packet4(own4, 2, 0, 1, 0x22, 0, 0, 0, 0, 0, 0, 0)},
	}
}

func refused4() []attempt {
	return []attempt{
		{"another's address", packet4(other4, 6, 0, 0, make([]byte, 20)...)},
		{"no address", packet4(none4, 17, 0, 0, udp(67, 0)...)},
		{"ARP of another's address", arpSays(2, ownMAC, other4, own4)},
		{"ARP announcement of another's address", arpSays(1, ownMAC, other4, other4)},
		{"ARP of another's MAC", arpSays(2, otherMAC, own4, other4)},
		{"ARP probe for another's address", arpSays(1, ownMAC, none4, other4)},
		{"ARP reply from nowhere", arpSays(2, ownMAC, none4, own4)},
		{"ARP of another protocol", ethernet(ownMAC, 0x0806, slices.Concat([]byte{0, 6, 8, 0, 6, 4, 0, 1}, ownMAC, own4.AsSlice(), make([]byte, 10)))},
		{"ARP of other sizes", ethernet(ownMAC, 0x0806, slices.Concat([]byte{0, 1, 8, 0, 6, 16, 0, 1}, ownMAC, own4.AsSlice(), make([]byte, 30)))},
		{"DHCP server", packet4(own4, 17, 0, 0, udp(68, 0)...)},
		{"DHCP server behind options", packet4(own4, 17, 0, 5, udp(68, 0)...)},
		{"DHCP server in fragments", packet4(own4, 17, 0x2000, 0, udp(68, 0)...)},
		{"redirect", packet4(own4, 1, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0)},
		{"IRDP", packet4(own4, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0)},
		{"IGMP query", packet4(own4, 2, 0, 1, 0x11, 0, 0, 0, 0, 0, 0, 0)},
	}
}

// allowed6 and refused6 are those of a job whose IPv6 addresses are given.
func allowed6(from netip.Addr) []attempt {
	return []attempt{
		{"TCP", packet6(from, 6, make([]byte, 20)...)},
		{"UDP", packet6(from, 17, udp(53, 0)...)},
		{"SCTP", packet6(from, 132, make([]byte, 12)...)},
		{"ping", packet6(from, 58, 128, 0, 0, 0, 0, 0, 0, 0)},
		{"router solicitation", packet6(from, 58, 133, 0, 0, 0, 0, 0, 0, 0)},
		{"neighbour solicitation", neighbour(from, 135, other6)},
		{"neighbour advertisement", neighbour(from, 136, from)},
		{"duplicate address detection", neighbour(none6, 135, from)},
		{"MLD report", packet6(from, 0, 58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0)},
		{"MLD report before there is an address", packet6(none6, 0, 58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0)},
		{"first fragment", packet6(from, 44, append([]byte{17, 0, 0, 1, 0, 0, 0, 1}, udp(53, 0)...)...)},
		{"later fragment", packet6(from, 44, append([]byte{17, 0, 0, 8, 0, 0, 0, 1}, udp(34, 2)...)...)},
	}
}

func refused6(from netip.Addr) []attempt {
	return []attempt{
		{"IPv6 of another's address", packet6(other6, 6, make([]byte, 20)...)},
		{"IPv6 of another's link-local address", packet6(otherLocal, 17, udp(53, 0)...)},
		{"IPv6 without an address", packet6(none6, 17, udp(53, 0)...)},
		{"router advertisement", packet6(from, 58, 134, 0, 0, 0, 0, 0, 0, 0)},
		{"router advertisement behind a header", packet6(from, 60, 58, 0, 1, 4, 0, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0)},
		{"router advertisement behind hop-by-hop options", packet6(from, 0, 58, 0, 1, 4, 0, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0)},
		{"router advertisement in fragments", packet6(from, 44, 58, 0, 0, 1, 0, 0, 0, 1, 134, 0, 0, 0, 0, 0, 0, 0)},
		{"header in fragments", packet6(from, 44, 60, 0, 0, 1, 0, 0, 0, 1, 58, 0, 1, 4, 0, 0, 0, 0)},
		{"redirect", packet6(from, 58, 137, 0, 0, 0, 0, 0, 0, 0)},
		{"advertisement of another's address", neighbour(from, 136, other6)},
		{"advertisement of another's link-local address", neighbour(from, 136, otherLocal)},
		{"advertisement from another's address", neighbour(other6, 136, from)},
		{"duplicate address detection for another's address", neighbour(none6, 135, other6)},
		{"MLD query", packet6(from, 0, 58, 0, 5, 2, 0, 0, 1, 0, 130, 0, 0, 0, 0, 0, 0, 0)},
		{"DHCPv6 server", packet6(from, 17, udp(34, 2)...)},
		{"DHCPv6 server in fragments", packet6(from, 44, append([]byte{17, 0, 0, 1, 0, 0, 0, 1}, udp(34, 2)...)...)},
		{"routing header", packet6(from, 43, 6, 0, 0, 0, 0, 0, 0, 0)},
		{"tunnel", packet6(from, 41, make([]byte, 40)...)},
	}
}

// refusedAlways are those of any job.
func refusedAlways() []attempt {
	bpdu := mac("01:80:c2:00:00:00")
	tagged := func(kind uint16) []byte {
		inner := packet4(own4, 6, 0, 0, make([]byte, 20)...)
		return slices.Concat(inner[:12], []byte{byte(kind >> 8), byte(kind), 0, 0}, inner[12:])
	}
	forged := func(frame []byte) []byte {
		copy(frame[6:], otherMAC)
		return frame
	}
	return []attempt{
		{"another's MAC", forged(packet4(own4, 6, 0, 0, make([]byte, 20)...))},
		{"another's MAC with IPv6", forged(packet6(local, 6, make([]byte, 20)...))},
		{"ARP in a frame of another's MAC", forged(arpSays(2, ownMAC, own4, other4))},
		{"STP", to(bpdu, ownMAC, 38, append([]byte{0x42, 0x42, 3}, make([]byte, 35)...))},
		{"VLAN tag", tagged(0x8100)},
		{"priority tag of a provider", tagged(0x88a8)},
		{"LLDP", ethernet(ownMAC, 0x88cc, make([]byte, 46))},
		{"EAPOL", ethernet(ownMAC, 0x888e, make([]byte, 46))},
		{"PPPoE", ethernet(ownMAC, 0x8863, make([]byte, 46))},
		{"PTP", ethernet(ownMAC, 0x88f7, make([]byte, 46))},
	}
}
