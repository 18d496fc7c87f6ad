package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NodeInterface is an interface of the node itself.
type NodeInterface struct {
	Name      string
	MAC       net.HardwareAddr
	Addresses []netip.Prefix
}

// OfNode returns the node's own interfaces, and the addresses of its gateways.
func OfNode() (own []NodeInterface, gateways []netip.Addr, err error) {
	err = retryDump(func() error {
		own, gateways, err = ofNode()
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("the node's own network: %w", err)
	}
	return own, gateways, nil
}

// maxDumps is how often a netlink dump is repeated that the kernel marks as interrupted.
const maxDumps = 20

func retryDump(list func() error) (err error) {
	for range maxDumps {
		if err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

func ofNode() (own []NodeInterface, gateways []netip.Addr, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, nil, err
	}
	at := map[int]int{}
	for i, l := range links {
		own = append(own, NodeInterface{Name: l.Attrs().Name, MAC: l.Attrs().HardwareAddr})
		at[l.Attrs().Index] = i
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		i, known := at[a.LinkIndex]
		if ok && known {
			ones, _ := a.Mask.Size()
			own[i].Addresses = append(own[i].Addresses, netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	for _, r := range routes {
		hops := []net.IP{r.Gw}
		for _, n := range r.MultiPath {
			hops = append(hops, n.Gw)
		}
		for _, hop := range hops {
			if ip, ok := netip.AddrFromSlice(hop); ok {
				gateways = append(gateways, ip.Unmap())
			}
		}
	}
	return own, gateways, err
}
