package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/network/antispoof"
	"github.com/migrate-hpc/migrate/osthread"
)

// Baseline is the state of a new network namespace on this node.
type Baseline struct {
	sysctls map[sysctlDir]map[string]string // directory → name → value
}

// NewBaseline reads the state of a network namespace that it makes for that.
func NewBaseline() (f Baseline, err error) {
	err = osthread.Throwaway(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if err := SetUpLoopback(); err != nil {
			return err
		}
		f.sysctls, err = readSysctls()
		return err
	})
	return f, err
}

// Diff says what differs in the network namespace of pid from what SetUp makes with i; "" is
// nothing. It looks at all that CRIU would carry: links, addresses, routes, rules, packet filters
// and sysctls. A job that may change its network is root in it. In other jobs only the network
// itself makes a difference, such as an address by router advertisement.
func (f Baseline) Diff(pid int, i *Interface) (what string, err error) {
	err = inNamespace(pid, func() error {
		for _, look := range []func(*Interface) (string, error){diffLinks, diffAddresses, diffRoutes, diffRules, diffFilters, f.diffSysctls} {
			if what, err = look(i); what != "" || err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("look at the job's network: %w", err)
	}
	return what, nil
}

const (
	loopback    = "lo"
	defaultMTU  = 1500 // of a veth
	loopbackMTU = 65536
)

func diffLinks(i *Interface) (string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return "", fmt.Errorf("links: %w", err)
	}
	seen := 0
	for _, l := range links {
		a := l.Attrs()
		switch {
		case a.Flags&net.FlagUp == 0:
			return "interface " + a.Name + " is down", nil
		case a.Name == loopback && a.MTU == loopbackMTU:
		case i != nil && a.Name == i.Name && a.MTU == defaultMTU && l.Type() == "veth" && sameMAC(a.HardwareAddr, i.MAC):
		default:
			return fmt.Sprintf("interface %s (%s, %s, MTU %d)", a.Name, l.Type(), a.HardwareAddr, a.MTU), nil
		}
		seen++
	}
	if want := countLinks(i); seen != want {
		return fmt.Sprintf("%d interfaces of %d", seen, want), nil
	}
	return "", nil
}

func countLinks(i *Interface) int {
	if i == nil {
		return 1
	}
	return 2
}

func sameMAC(a net.HardwareAddr, text string) bool {
	b, err := net.ParseMAC(text)
	return err == nil && bytes.Equal(a, b)
}

// diffAddresses allows the kernel's own addresses beside the job's. These are the loopback's and
// the link-local one of the MAC address.
func diffAddresses(i *Interface) (string, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return "", fmt.Errorf("addresses: %w", err)
	}
	left := map[string]bool{"127.0.0.1/8": true, "::1/128": true}
	if i != nil {
		given, err := netlink.ParseAddr(i.Address)
		if err != nil {
			return "", fmt.Errorf("address %q: %w", i.Address, err)
		}
		left[given.IPNet.String()] = true
		left[linkLocal(i.MAC)] = true
	}
	for _, a := range addrs {
		text := a.IPNet.String()
		if !left[text] || a.Peer != nil && a.Peer.String() != text {
			return "address " + text, nil
		}
		delete(left, text)
	}
	delete(left, "::1/128") // without IPv6 there is none
	if i != nil {
		delete(left, linkLocal(i.MAC))
	}
	for text := range left {
		return "no address " + text, nil
	}
	return "", nil
}

// linkLocal is the address, with its prefix length, that the kernel derives from a MAC.
func linkLocal(mac string) string {
	m, err := net.ParseMAC(mac)
	if err != nil || len(m) != 6 {
		return ""
	}
	return antispoof.LinkLocal(m).String() + "/64"
}

// diffRoutes allows the routes of addresses, and the default route that the job was given.
func diffRoutes(i *Interface) (string, error) {
	every := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, every, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", fmt.Errorf("routes: %w", err)
	}
	missing := i != nil && i.Gateway != ""
	for _, r := range routes {
		switch {
		case r.Protocol == unix.RTPROT_KERNEL:
		case missing && isDefault(r) && r.Gw.Equal(net.ParseIP(i.Gateway)) && r.Table == unix.RT_TABLE_MAIN:
			missing = false
		default:
			return "route " + r.String(), nil
		}
	}
	if missing {
		return "no default route", nil
	}
	return "", nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0 && r.Dst.IP.IsUnspecified()
}

// diffRules allows the rules that the kernel makes (fib_default_rules_init in
// net/ipv4/fib_rules.c and its counterpart for IPv6).
func diffRules(*Interface) (string, error) {
	made := map[int]map[int]int{
		netlink.FAMILY_V4: {0: unix.RT_TABLE_LOCAL, 32766: unix.RT_TABLE_MAIN, 32767: unix.RT_TABLE_DEFAULT},
		netlink.FAMILY_V6: {0: unix.RT_TABLE_LOCAL, 32766: unix.RT_TABLE_MAIN},
	}
	for family, tables := range made {
		rules, err := netlink.RuleList(family)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return "", fmt.Errorf("rules: %w", err)
		}
		for _, r := range rules {
			priority := max(r.Priority, 0) // the first one has none
			if table, ok := tables[priority]; !ok || table != r.Table || r.Src != nil || r.Dst != nil || r.IifName != "" || r.OifName != "" || r.Mark != 0 || r.Invert {
				return r.String(), nil
			}
		}
		if len(rules) > 0 && len(rules) != len(tables) {
			return fmt.Sprintf("%d rules of %d", len(rules), len(tables)), nil
		}
	}
	return "", nil
}

// diffFilters finds any table of nftables or of its predecessors.
func diffFilters(*Interface) (string, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: unix.NFNETLINK_V0})
	tables, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPROTONOSUPPORT) { // a kernel without nftables
		return "", fmt.Errorf("nftables: %w", err)
	}
	if len(tables) > 0 {
		return fmt.Sprintf("%d tables of nftables", len(tables)), nil
	}
	for _, name := range []string{"ip_tables_names", "ip6_tables_names", "arp_tables_names"} {
		data, err := os.ReadFile("/proc/thread-self/net/" + name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if len(data) > 0 {
			return fmt.Sprintf("tables of iptables: %q", data), nil
		}
	}
	return "", nil
}

func (f Baseline) diffSysctls(i *Interface) (string, error) {
	for g, want := range f.sysctls {
		what, err := g.diff(want, acceptRA, acceptDAD)
		if what != "" || err != nil {
			return what, err
		}
		if i == nil || filepath.Base(string(g)) != "default" {
			continue
		}
		own := sysctlDir(filepath.Join(filepath.Dir(string(g)), i.Name)) // begins as a copy of the default
		if what, err = own.diff(want, acceptRA, acceptDAD, "mtu"); what != "" || err != nil {
			return what, err
		}
	}
	return "", nil
}
