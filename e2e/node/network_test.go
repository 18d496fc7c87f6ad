package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNetworkAddressAndConnectionsSurviveMoves(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	ip := strings.TrimSuffix(here.ip, ".1") + ".77"
	const mac = "02:00:00:00:00:77"
	j := here.oracleIn([]string{"--net", "br0", "--address", ip + "/24", "--gateway", here.ip, "--mac", mac}, "--tcp-listen", "9000")
	old, err := here.dial(ip + ":9000")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	c.must(echo(old, "before"))
	for round := range 3 {
		j.move(here, there)
		here, there = there, here
		link := here.migrate("exec", j.id, "ip", "addr", "show", "eth0").want(t, 0).out
		if !strings.Contains(link, ip+"/24") || !strings.Contains(link, mac) {
			t.Errorf("the interface of the job on %s: %s", here.name, link)
		}
		if route := here.migrate("exec", j.id, "ip", "route").want(t, 0).out; !strings.Contains(route, "default via "+c.nodes[0].ip) {
			t.Errorf("routes of the job on %s: %s", here.name, route)
		}
		if err := echo(old, fmt.Sprintf("through the connection of before, round %d", round)); err != nil {
			t.Fatalf("the connection from before the move: %v", err)
		}
		for _, from := range c.nodes {
			conn, err := from.dial(ip + ":9000")
			if err != nil {
				t.Fatalf("the job on %s does not answer %s: %v", here.name, from.name, err)
			}
			if err := errors.Join(echo(conn, "new"), conn.Close()); err != nil {
				t.Errorf("from %s: %v", from.name, err)
			}
		}
		j.ticks(here, 10)
	}
	for _, n := range c.nodes {
		if leftToCRIU(t, n) {
			t.Errorf("%s left the network of a job that changed nothing of it to CRIU", n.name)
		}
	}
	j.finish(here)
}

// leftToCRIU tells whether the node has had CRIU save a job's network.
func leftToCRIU(t *testing.T, n *node) bool {
	t.Helper()
	log, err := os.ReadFile(n.logPath())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(log), "network is left to CRIU")
}

func TestNetworkChangesOfAJobMoveWithIt(t *testing.T) {
	const change = "ip addr add 10.88.0.7/24 dev $0 && ip route add 10.89.0.0/24 via 10.88.0.1 && nft add table inet mine && echo 1 >/proc/sys/net/ipv4/conf/$0/proxy_arp"
	const look = "ip addr; ip route; nft list tables; cat /proc/sys/net/ipv4/conf/$0/proxy_arp"
	for name, of := range map[string]struct {
		flags []string
		link  string
	}{
		"root":                     {[]string{"--net", "br0", "--address", "10.77.0.7/24"}, "eth0"},
		"root of a user namespace": {[]string{"--user-ns"}, "lo"}, // a link to a bridge is more than CRIU restores there
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2)
			a, b := c.two()
			j := a.oracleIn(of.flags)
			a.migrate("exec", j.id, "sh", "-c", change, of.link).want(t, 0)
			j.move(a, b)
			out := b.migrate("exec", j.id, "sh", "-c", look, of.link).want(t, 0).out
			for _, want := range []string{"10.88.0.7/24", "10.89.0.0/24 via 10.88.0.1", "table inet mine", "\n1\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q after the move:\n%s", want, out)
				}
			}
			if !leftToCRIU(t, a) {
				t.Errorf("%s does not say that CRIU carries the network", a.name)
			}
			j.finish(b)
		})
	}
}

func TestNetworkSettingsAreEqualAfterMoves(t *testing.T) {
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2)
			a, b := c.two()
			ip := strings.TrimSuffix(a.ip, ".1") + ".77"
			j := a.oracleIn(append(flags, "--net", "br0", "--address", ip+"/24", "--gateway", a.ip))
			const look = "cd /proc/sys/net; ip -o link | sed 's/@if[0-9]*//; s/link-netnsid [0-9]*//'; ip -o addr | sed 's/tentative//'; ip route; ip rule; " +
				"cat mptcp/enabled unix/max_dgram_qlen ipv4/ping_group_range; grep . ipv4/conf/*/* ipv6/conf/*/* 2>/dev/null; true"
			before := a.migrate("exec", j.id, "sh", "-c", look).want(t, 0).out
			j.move(a, b)
			after := b.migrate("exec", j.id, "sh", "-c", look).want(t, 0).out
			if before != after {
				t.Errorf("before the move:\n%s\nafter:\n%s", before, after)
			}
			j.move(b, a)
			j.ticks(a, 10)
			j.finish(a)
		})
	}
}

// What is on its way to a job while it moves is sent again until the job runs: no host
// resets the connection because the socket is not there yet, and no copy that may never
// run acknowledges what only that copy then has.
func TestNetworkIsSilentWhileAJobIsParked(t *testing.T) {
	t.Parallel()
	const asGiven, ofItsOwn = "true", "ip addr add 10.88.0.7/24 dev eth0" // CRIU saves the latter
	for name, of := range map[string]struct {
		network, point string
		goesOn         bool
	}{
		"no socket yet":                        {asGiven, "criu.post-setup-namespaces", true},
		"parked":                               {asGiven, "shim.parked", true},
		"given up":                             {asGiven, "shim.parked", false},
		"parked with a network that was saved": {ofItsOwn, "shim.parked", true},
		"given up with such a network":         {ofItsOwn, "shim.parked", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2, withFaults)
			a, b := c.two()
			ip := strings.TrimSuffix(a.ip, ".1") + ".77"
			j := a.oracleIn([]string{"--net", "br0", "--address", ip + "/24"}, "--tcp-listen", "9000")
			a.migrate("exec", j.id, "sh", "-c", of.network).want(t, 0)
			conn, err := a.dial(ip + ":9000")
			c.must(err)
			defer conn.Close()
			c.must(echo(conn, "before"))
			b.plan(of.point + " 1 pause")
			p := a.spawn("move", "--force", j.id, b.name)
			c.must(b.awaitHit(of.point, p))
			const text = "sent while the job was frozen"
			sent := retransmitted(t, conn)
			_, err = io.WriteString(conn, text)
			c.must(err)
			eventually(t, limit, func() error {
				if again := retransmitted(t, conn) - sent; again < 3 {
					return fmt.Errorf("sent %d times again", again)
				}
				return nil
			})
			here := b
			if !of.goesOn {
				here = a
				p.signal(unix.SIGINT)
				eventually(t, limit, func() error { return j.whereabouts(a) })
				j.ticks(a, 10)
			}
			b.amend()
			p.wait()
			got := make([]byte, len(text))
			c.must(conn.SetReadDeadline(time.Now().Add(limit)))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
				t.Fatalf("what was sent meanwhile came back as %q: %v", got, err)
			}
			c.must(echo(conn, "after"))
			j.finish(here)
		})
	}
}

func TestNetworkIsLostWithTheBridgeOfTheTarget(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	j := a.oracleIn([]string{"--net", "br1", "--address", "10.77.0.7/24"})
	b.plan("shim.parked 1 pause")
	p := a.spawn("move", "--force", j.id, b.name)
	c.must(b.awaitHit("shim.parked", p))
	c.ip("-n", b.netns, "link", "del", "br1")
	b.amend()
	p.wait().want(t, 0)
	j.ticks(b, 20)
	if log := b.shimLog(j.id); !strings.Contains(log, "ip link set mg") {
		t.Errorf("the shim does not say what to do:\n%s", log)
	}
	j.finish(b)
}

// retransmitted is how often the kernel has sent segments of the connection again, tcp(7).
func retransmitted(t *testing.T, conn net.Conn) (times uint32) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if ctlErr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); errors.Join(err, ctlErr) != nil {
		t.Fatal(errors.Join(err, ctlErr))
	}
	if info.State != unix.BPF_TCP_ESTABLISHED {
		t.Fatalf("the connection is in state %d", info.State)
	}
	return info.Total_retrans
}

// dial opens a connection from the node's own network.
func (n *node) dial(addr string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() { // on a thread that dies with it, for it stays in the node's network
		defer close(done)
		runtime.LockOSThread()
		var ns *os.File
		if ns, err = os.Open("/run/netns/" + n.netns); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		conn, err = dialHere(addr)
	}()
	<-done
	return conn, err
}

// dialHere connects on the calling thread; net.Dial might use another.
func dialHere(addr string) (net.Conn, error) {
	to, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), addr)
	defer f.Close()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return net.FileConn(f)
}

func echo(conn net.Conn, text string) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		return fmt.Errorf("echo of %q is %q: %w", text, got, err)
	}
	return nil
}
