package conflict

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// host is a network namespace.
type host struct {
	t *testing.T
	netns.NsHandle
}

func newHost(t *testing.T) host {
	t.Helper()
	testenv.NeedRoot(t)
	h := host{t: t}
	err := osthread.Throwaway(func() (err error) {
		h.NsHandle, err = netns.New()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// do works on a thread that dies in the host's network.
func (h host) do(work func() error) error {
	h.t.Helper()
	return osthread.Throwaway(func() error {
		if err := netns.Set(h.NsHandle); err != nil {
			return err
		}
		return work()
	})
}

func (h host) must(work func() error) {
	h.t.Helper()
	if err := h.do(work); err != nil {
		h.t.Fatal(err)
	}
}

// bridge gives the host a bridge, with addresses or without.
func (h host) bridge(name string, addresses ...string) {
	h.t.Helper()
	h.must(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return err
		}
		return raise(name, addresses)
	})
}

func raise(name string, addresses []string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		a.Flags = 2 // IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// plug connects a bridge of the host with a link of a peer, or with a bridge there.
func (h host) plug(bridge, port string, peer host, link, theirs string, addresses ...string) {
	h.t.Helper()
	h.must(func() error {
		master, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MasterIndex = port, master.Attrs().Index
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: link, PeerNamespace: netlink.NsFd(peer.NsHandle)}); err != nil {
			return err
		}
		return raise(port, nil)
	})
	peer.must(func() error {
		if theirs != "" {
			master, err := netlink.LinkByName(theirs)
			if err != nil {
				return err
			}
			end, err := netlink.LinkByName(link)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetMaster(end, master); err != nil {
				return err
			}
		}
		return raise(link, addresses)
	})
}

func (h host) mac(link string) (mac string) {
	h.t.Helper()
	h.must(func() error {
		l, err := netlink.LinkByName(link)
		if err == nil {
			mac = l.Attrs().HardwareAddr.String()
		}
		return err
	})
	return mac
}

func (h host) probe(addresses ...string) error {
	h.t.Helper()
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	return h.do(func() error { return Probe(context.Background(), "br0", all...) })
}

// awaitConflict waits until the bridges have noticed that their cables are plugged in.
func (h host) awaitConflict(address, mac string) {
	h.t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		err = h.probe(address)
		if used := (*InUse)(nil); errors.As(err, &used) && used.Address.String() == address && used.MAC.String() == mac {
			return
		}
	}
	h.t.Errorf("%s, which %s has: %v", address, mac, err)
}

func TestAnAddressOnTheBridgeIsFoundWhoeverHasIt(t *testing.T) {
	node, neighbour, other, beyond := newHost(t), newHost(t), newHost(t), newHost(t)
	node.bridge("br0")
	other.bridge("br0", "10.3.0.2/24", "fd00:3::2/64")
	node.plug("br0", "job", neighbour, "eth0", "", "10.3.0.7/24", "fd00:3::7/64", "fe80::7/64")
	node.plug("br0", "uplink", other, "downlink", "br0")
	other.plug("br0", "job", beyond, "eth0", "", "10.3.0.9/24", "fd00:3::9/64")
	for address, mac := range map[string]string{
		"10.3.0.7": neighbour.mac("eth0"), "fd00:3::7": neighbour.mac("eth0"), "fe80::7": neighbour.mac("eth0"),
		"10.3.0.2": other.mac("br0"), "fd00:3::2": other.mac("br0"),
		"10.3.0.9": beyond.mac("eth0"), "fd00:3::9": beyond.mac("eth0"),
	} {
		node.awaitConflict(address, mac)
	}
	if err := node.probe("10.3.0.8", "fd00:3::8", "fe80::8"); err != nil {
		t.Errorf("addresses that nobody has: %v", err)
	}
	empty := newHost(t)
	empty.bridge("br0")
	empty.plug("br0", "job", newHost(t), "eth0", "")
	empty.must(func() error {
		link, err := netlink.LinkByName("job")
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	if err := empty.probe("10.3.0.7", "fd00:3::7"); err != nil {
		t.Errorf("a bridge without ports: %v", err)
	}
	if err := node.probe("10.3.0.8", "fd00:3::9"); !errors.As(err, new(*InUse)) {
		t.Errorf("an address that nobody has, and one that somebody has: %v", err)
	}
}

// Of two nodes that ask at once, at most one may be told that the address is free.
func TestSomebodyElseWhoAsksIsAConflict(t *testing.T) {
	for _, address := range []string{"10.3.0.7", "fd00:3::7"} {
		node, other := newHost(t), newHost(t)
		node.bridge("br0")
		other.bridge("br0")
		node.plug("br0", "uplink", other, "downlink", "br0")
		ctx, stop := context.WithCancel(context.Background())
		asked := make(chan error, 1)
		go func() {
			asked <- other.do(func() error { return askWithoutEnd(ctx, address) })
		}()
		node.awaitConflict(address, other.mac("br0"))
		stop()
		if err := <-asked; err != nil {
			t.Error(err)
		}
	}
}

// askWithoutEnd asks as Probe does, but does not listen.
func askWithoutEnd(ctx context.Context, address string) error {
	ifi, err := net.InterfaceByName("br0")
	if err != nil {
		return err
	}
	a := netip.MustParseAddr(address)
	ask := askARP
	if a.Is6() {
		ask = askNDP
	}
	q, err := ask(ifi.HardwareAddr, a)
	if err != nil {
		return err
	}
	conn, err := packet.Listen(ifi, packet.Datagram, q.protocol, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	for ctx.Err() == nil {
		if _, err := conn.WriteTo(q.packet, &packet.Addr{HardwareAddr: q.to}); err != nil {
			return err
		}
		//house:allow time.Sleep: the pace of what is sent
		time.Sleep(time.Millisecond)
	}
	return nil
}

func TestABridgeThatCannotBeAskedIsToldOf(t *testing.T) {
	node := newHost(t)
	if err := node.probe("10.3.0.7"); err == nil || !strings.Contains(err.Error(), "br0") {
		t.Errorf("without a bridge: %v", err)
	}
	node.bridge("br0")
	node.must(func() error {
		link, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
	if err := node.probe("10.3.0.7"); err == nil || !strings.Contains(err.Error(), "`ip link set br0 up`") {
		t.Errorf("with one that is down: %v", err)
	}
}

func TestAQuestionThatIsGivenUpEnds(t *testing.T) {
	node := newHost(t)
	node.bridge("br0")
	ctx, stop := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	stop(why)
	err := node.do(func() error { return Probe(ctx, "br0", netip.MustParseAddr("10.3.0.7")) })
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}
