package antispoof

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// segment is a node with a bridge, a job on it, and a host that receives what passes.
type segment struct {
	t        *testing.T
	node     netns.NsHandle
	port     netlink.Link // the node's end of the job's link
	job, ear int          // packet sockets
	sent     uint32
}

// newSegment leaves the calling thread, which dies with its goroutine, in the node's network.
func newSegment(t *testing.T) *segment {
	t.Helper()
	testenv.NeedRoot(t)
	runtime.LockOSThread()
	s := &segment{t: t}
	job, ear := s.network(), s.network()
	s.node = s.network()
	for _, family := range []string{"arp", "ip", "ip6"} { // br_netfilter cuts off what comes after a packet
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+family+"tables", []byte("0"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	s.must(netlink.LinkAdd(bridge))
	s.must(netlink.LinkSetUp(bridge))
	s.plug(bridge, "mgjob", job)
	s.plug(bridge, "out", ear)
	s.job, s.ear = s.socket(job), s.socket(ear)
	s.must(netns.Set(s.node))
	var err error
	s.port, err = netlink.LinkByName("mgjob")
	s.must(err)
	s.awaitForwarding()
	return s
}

// awaitForwarding waits until the bridge has noticed that both cables are plugged in.
func (s *segment) awaitForwarding() {
	s.t.Helper()
	s.patience(50 * time.Millisecond)
	defer s.patience(limit)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		last := s.send(passing)
		if heard, err := s.hear(last); err == nil && heard[last] {
			return
		}
	}
	s.t.Fatal("the bridge forwards nothing")
}

const limit = 20 * time.Second

// patience is how long to wait for a frame.
func (s *segment) patience(d time.Duration) {
	s.t.Helper()
	tv := unix.NsecToTimeval(int64(d))
	s.must(unix.SetsockoptTimeval(s.ear, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
}

// passing is a frame that a filter allows.
var passing = packet6(local, 6, make([]byte, 20)...)

func (s *segment) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *segment) network() netns.NsHandle {
	s.t.Helper()
	ns, err := netns.New()
	s.must(err)
	s.t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func (s *segment) plug(bridge netlink.Link, name string, peer netns.NsHandle) {
	s.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = name, bridge.Attrs().Index
	s.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(peer)}))
	link, err := netlink.LinkByName(name)
	s.must(err)
	s.must(netlink.LinkSetUp(link))
	h, err := netlink.NewHandleAt(peer)
	s.must(err)
	defer h.Close()
	end, err := h.LinkByName("eth0")
	s.must(err)
	s.must(h.LinkSetUp(end))
}

// socket takes frames as they are, on the link of a network.
func (s *segment) socket(in netns.NsHandle) int {
	s.t.Helper()
	s.must(netns.Set(in))
	link, err := netlink.LinkByName("eth0")
	s.must(err)
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	s.must(err)
	s.t.Cleanup(func() { _ = unix.Close(fd) })
	s.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}))
	return fd
}

// send has the job send a frame, and returns the mark at its end.
func (s *segment) send(frame []byte) uint32 {
	s.t.Helper()
	s.sent++
	marked := binary.BigEndian.AppendUint32(slices.Clone(frame), 0xbead0000+s.sent)
	_, err := unix.Write(s.job, marked)
	s.must(err)
	return 0xbead0000 + s.sent
}

// hear returns the marks of what arrives up to a frame with the last one.
func (s *segment) hear(last uint32) (map[uint32]bool, error) {
	heard := map[uint32]bool{}
	for buf := make([]byte, 1<<16); !heard[last]; {
		n, _, err := unix.Recvfrom(s.ear, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the last frame has not arrived: %w", err)
		}
		heard[binary.BigEndian.Uint32(buf[n-4:n])] = true
	}
	return heard, nil
}

// try sends frames and returns the names of those that are heard.
func (s *segment) try(list ...[]attempt) (heard []string) {
	s.t.Helper()
	marks := map[uint32]string{}
	for _, a := range slices.Concat(list...) {
		marks[s.send(a.frame)] = a.name
	}
	all, err := s.hear(s.send(passing))
	s.must(err)
	for mark := range all {
		if name := marks[mark]; name != "" {
			heard = append(heard, name)
		}
	}
	return heard
}

func TestNobodyHearsAJobThatSpeaksAsAnother(t *testing.T) {
	for _, c := range []struct {
		address         netip.Addr
		allowed, denied [][]attempt
	}{
		{own4, [][]attempt{allowed4(), allowed6(local)}, [][]attempt{refused4(), refused6(local), refusedAlways()}},
		{own6, [][]attempt{allowed6(own6)}, [][]attempt{refused6(own6), refusedAlways(), allowed4(), refused4()}},
	} {
		t.Run(c.address.String(), func(t *testing.T) {
			s := newSegment(t)
			all := slices.Concat(c.denied...)
			if heard := s.try(all); len(heard) != len(all) {
				t.Fatalf("without a filter %d frames of %d are heard: %q", len(heard), len(all), heard)
			}
			id := Identity{MAC: ownMAC, Address: c.address}
			for range 2 { // the second time changes nothing
				s.must(Install(s.port, id))
				if heard := s.try(all); len(heard) > 0 {
					t.Errorf("heard: %q", heard)
				}
				all := slices.Concat(c.allowed...)
				if heard := s.try(all); len(heard) != len(all) {
					t.Errorf("%d frames of %d are heard: %q", len(heard), len(all), heard)
				}
			}
		})
	}
}

func TestAFilterThatIsHalfInstalledLetsNothingPass(t *testing.T) {
	s := newSegment(t)
	s.must(Install(s.port, Identity{MAC: ownMAC, Address: own4}))
	filters, err := netlink.FilterList(s.port, netlink.HANDLE_MIN_INGRESS)
	s.must(err)
	for _, f := range filters {
		if f.Attrs().Priority == allowPriority {
			s.must(netlink.FilterDel(f))
		}
	}
	lost := s.send(passing)
	s.must(Install(s.port, Identity{MAC: ownMAC, Address: own4}))
	heard, err := s.hear(s.send(passing))
	s.must(err)
	if heard[lost] {
		t.Error("a frame has passed without the rule that allows it")
	}
}

func TestThisKernelFilters(t *testing.T) {
	newSegment(t)
	if err := Usable(); err != nil {
		t.Error(err)
	}
}

func TestAFilterGoesWithItsDevice(t *testing.T) {
	s := newSegment(t)
	s.must(Install(s.port, Identity{MAC: ownMAC, Address: own4}))
	s.must(netlink.LinkDel(s.port))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "mgjob"
	s.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}))
	link, err := netlink.LinkByName("mgjob")
	s.must(err)
	qdiscs, err := netlink.QdiscList(link)
	s.must(err)
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			t.Errorf("a new device of that name has %+v", q)
		}
	}
}
