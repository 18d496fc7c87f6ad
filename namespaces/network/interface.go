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

// Interface is a job's own network interface: one end of a veth pair whose
// other end hangs on a bridge of the node. Address and MAC belong to the job.
type Interface struct {
	Name    string // inside the job
	Host    string // the other end's name on the node, at most 15 bytes
	Bridge  string
	Address string // CIDR
	Gateway string // "" for none
	MAC     string
}

// SetUp makes of the fresh network namespace of pid what every job begins
// with: a loopback, and the interface i if it is not nil, for Connect to hang on its bridge.
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

// Enter takes the calling thread, which must be locked and end with its
// goroutine, into the network namespace of pid.
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

// setUpLoopback runs inside the job's network namespace.
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

// Attach makes the veth pair and gives one end, ready for use, to the network namespace
// of pid. The other one hangs on no bridge until Connect: nobody meets an address
// whose sockets are not there yet and gets his connections reset, and what is sent to a
// job that moves is acknowledged by nobody but the copy that runs.
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

// SetHostUp brings up the node's end of a veth pair, which takes in nothing but what the job
// may send. Without a bridge the node itself hears that; so that it answers nothing, it
// resolves no addresses there.
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

// highMAC is a MAC above those of other ports: a bridge that was given none takes the lowest
// of its ports, and whoever talks to the node loses it for seconds when that changes.
func highMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = 0xfe // unicast, locally administered
	return mac
}

// Filter has the node's end of a veth pair that is there already take in nothing but what
// the job may send. Doing it again changes nothing.
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

// Connect hangs the interface of the job with process pid on its bridge and announces
// its addresses, so that switches learn where they are now.
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

// announceSysctls are the sysctls with which the kernel announces addresses when the MAC
// of their interface is set (ip-sysctl.rst).
var announceSysctls = []string{"/proc/sys/net/ipv4/conf/%s/arp_notify", "/proc/sys/net/ipv6/conf/%s/ndisc_notify"}

// announce runs inside the job's network namespace. The MAC is set to what it is.
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

// SetPort lets frames pass between the job's interface and the bridge, or stops
// them, by the state of the bridge's port. The link itself stays up: routes over
// one that is down carry a flag with which `ip route restore`, and so CRIU, does
// not take them. An interface that is gone lets nothing pass.
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

// RemoveLink takes a job's interface away from the node. The other end goes with
// it. An interface that is gone is fine.
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
