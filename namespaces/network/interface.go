package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/network/antispoof"
	"github.com/migrate-hpc/migrate/osthread"
)

// Interface is a job's own network interface: one end of a veth pair. The other end is a port of a
// bridge of the node. Address and MAC belong to the job.
type Interface struct {
	Name    string // inside the job
	Host    string // the other end's name on the node, at most 15 bytes
	Bridge  string
	Address string // CIDR
	Gateway string // "" for none
	MAC     string
}

// SetUp prepares the new network namespace of pid: a loopback, and the interface i if it is not
// nil. Connect adds i to its bridge later.
func SetUp(pid int, i *Interface) error {
	err := inNamespace(pid, SetUpLoopback)
	if err != nil || i == nil {
		return err
	}
	return i.Attach(pid)
}

// inNamespace runs do in the network namespace of pid.
func inNamespace(pid int, do func() error) error {
	return osthread.Throwaway(func() error {
		if err := Enter(pid); err != nil {
			return err
		}
		return do()
	})
}

// Enter moves the calling thread into the network namespace of pid. The thread must be locked and
// end with its goroutine.
func Enter(pid int) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter the network namespace of process %d: %w", pid, err)
	}
	return nil
}

// SetUpLoopback runs inside the job's network namespace.
func SetUpLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring the loopback up: %w", err)
	}
	return disableSysctls()
}

// Attach makes the veth pair and moves one end, configured, to the network namespace of pid. The
// other end joins no bridge before Connect. Until then no peer reaches the address and has its
// connections reset. Only the copy that runs acknowledges what is sent to a job that moves.
func (i Interface) Attach(pid int) error {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return err
	}
	if err := inNamespace(pid, disableSysctls); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = i.Host
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: i.Name, PeerHardwareAddr: mac, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make interface %s: %w", i.Host, err)
	}
	if err := i.SetHostUp(); err != nil {
		return err
	}
	return i.configureInside(pid)
}

// SetHostUp brings up the node's end of a veth pair, which takes in only what the job may send.
// Without a bridge the node itself receives that. It resolves no addresses there, so it answers
// nothing.
func (i Interface) SetHostUp() error {
	link, err := netlink.LinkByName(i.Host)
	if err != nil {
		return fmt.Errorf("interface %s: %w", i.Host, err)
	}
	if err := i.installFilter(link); err != nil {
		return err
	}
	if err := netlink.LinkSetHardwareAddr(link, highMAC()); err != nil {
		return fmt.Errorf("MAC of %s: %w", i.Host, err)
	}
	if err := netlink.LinkSetARPOff(link); err != nil {
		return fmt.Errorf("no address resolution on %s: %w", i.Host, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", i.Host, err)
	}
	return nil
}

// highMAC is a MAC above those of other ports. A bridge without a MAC of its own takes the lowest
// of its ports. When that changes, peers of the node lose it for seconds.
func highMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = 0xfe // unicast, locally administered
	return mac
}

// InstallFilter has the node's end of an existing veth pair take in only what the job may send. A
// second call changes nothing.
func (i Interface) InstallFilter() error {
	link, err := netlink.LinkByName(i.Host)
	if err != nil {
		return fmt.Errorf("interface %s: %w", i.Host, err)
	}
	return i.installFilter(link)
}

func (i Interface) installFilter(link netlink.Link) error {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return err
	}
	address, err := netip.ParsePrefix(i.Address)
	if err != nil {
		return err
	}
	return antispoof.Install(link, antispoof.Identity{MAC: mac, Address: address.Addr()})
}

// Connect adds the interface of the job with process pid to its bridge. It announces the
// addresses, so that switches learn where they are now.
func (i Interface) Connect(pid int) error {
	bridge, err := netlink.LinkByName(i.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", i.Bridge, err)
	}
	link, err := netlink.LinkByName(i.Host)
	if err != nil {
		return fmt.Errorf("interface %s: %w", i.Host, err)
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("hang %s on bridge %s: %w", i.Host, i.Bridge, err)
	}
	inside := link.Attrs().ParentIndex // a job that is root may have given it another name
	return inNamespace(pid, func() error { return announce(inside) })
}

// announceSysctls have the kernel announce addresses when the MAC of their interface is set
// (ip-sysctl.rst).
var announceSysctls = []string{"/proc/sys/net/ipv4/conf/%s/arp_notify", "/proc/sys/net/ipv6/conf/%s/ndisc_notify"}

// announce runs inside the job's network namespace. It sets the MAC to the same value.
func announce(index int) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return fmt.Errorf("interface %d of the job: %w", index, err)
	}
	for _, pattern := range announceSysctls {
		path := fmt.Sprintf(pattern, link.Attrs().Name)
		before, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err == nil {
			//house:allow os.WriteFile: a file of the kernel
			err = os.WriteFile(path, []byte("1\n"), 0)
		}
		if err != nil {
			return fmt.Errorf("announce the job's address: %w", err)
		}
		//house:allow os.WriteFile: a file of the kernel
		defer func() { _ = os.WriteFile(path, before, 0) }() // as it could be written before
	}
	if err := netlink.LinkSetHardwareAddr(link, link.Attrs().HardwareAddr); err != nil {
		return fmt.Errorf("announce the job's address: %w", err)
	}
	return nil
}

func (i Interface) configureInside(pid int) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(i.Name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(i.Address)
	if err != nil {
		return fmt.Errorf("address %q: %w", i.Address, err)
	}
	if addr.IP.To4() == nil { // on the target of a move the same address is not a duplicate
		addr.Flags |= unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("set address %s: %w", i.Address, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	if i.Gateway == "" {
		return nil
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(i.Gateway)})
}

// SetPort sets the state of the bridge's port: frames of the job pass, or not. The link itself
// stays up. Routes over a link that is down carry a flag that `ip route restore`, and so CRIU,
// rejects. An interface that does not exist passes nothing.
func SetPort(host string, up bool) error {
	link, err := netlink.LinkByName(host)
	if errors.As(err, &netlink.LinkNotFoundError{}) && !up {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", host, err)
	}
	state := byte(0) // BR_STATE_DISABLED, include/uapi/linux/if_bridge.h
	if up {
		state = 3 // BR_STATE_FORWARDING
	}
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	port.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{state})
	req.AddData(port)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set the bridge port %s: %w", host, err)
	}
	return nil
}

// BridgeExists reports whether the node has a bridge of that name.
func BridgeExists(name string) bool {
	link, err := netlink.LinkByName(name)
	return err == nil && strings.EqualFold(link.Type(), "bridge")
}

// RemoveLink removes a job's interface from the node, and the other end with it. An interface that
// does not exist is no error.
func RemoveLink(host string) error {
	link, err := netlink.LinkByName(host)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", host, err)
	}
	if err := netlink.LinkDel(link); !errors.Is(err, unix.ENODEV) { // the kernel takes it with the job's namespace
		return err
	}
	return nil
}
