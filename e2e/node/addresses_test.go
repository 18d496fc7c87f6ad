package node

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const alice, mallory = "12345", "12346"

// address is one in the network of br0.
func (n *node) address(host string) string {
	return n.ip[:strings.LastIndex(n.ip, ".")+1] + host
}

// allowAll has all nodes allow all users the addresses of br0.
func allowAll(c *cluster) {
	for _, n := range c.nodes {
		n.networks = []string{"br0=" + n.address("0") + "/24,fd00:99::/64"}
	}
}

// neighbour is a host on the bridge of the node that is none of the cluster's, and its MAC.
func (n *node) neighbour(address string) (mac string) {
	c, ns := n.c, "mg-x-"+n.c.tag
	c.ip("netns", "add", ns)
	c.t.Cleanup(func() { c.ip("netns", "del", ns) })
	c.ip("-n", n.netns, "link", "add", "toward", "type", "veth", "peer", "name", "eth0", "netns", ns)
	c.ip("-n", n.netns, "link", "set", "toward", "master", "br0", "up")
	c.ip("-n", ns, "addr", "add", address+"/24", "dev", "eth0")
	c.ip("-n", ns, "link", "set", "eth0", "up")
	return strings.TrimSpace(command(c.t, "ip", "netns", "exec", ns, "cat", "/sys/class/net/eth0/address").want(c.t, 0).out)
}

// answersAt waits until an address answers, though no process listens on the port.
func (n *node) answersAt(address string) {
	n.c.t.Helper()
	eventually(n.c.t, limit, func() error {
		if _, err := n.dial(address + ":9"); !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		return nil
	})
}

// silentAt wants no answer for an address.
func (n *node) silentAt(address string) {
	n.c.t.Helper()
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) { // the runtime's own signals interrupt a call
		_, err = n.dial(address + ":9")
	}
	if !errors.Is(err, unix.EHOSTUNREACH) {
		n.c.t.Errorf("a call from %s to %s: %v", n.name, address, err)
	}
}

func TestNetworkAddressInUseIsRefused(t *testing.T) {
	c := newCluster(t, 2, allowAll)
	a, b := c.two()
	const mac, mac6 = "02:00:00:00:99:07", "02:00:00:00:99:06"
	serve := []string{"--", shared.oracle, "--count", "--mem", "8", "--tcp-listen", "9000"}
	for _, net := range [][]string{{"--address", a.address("77") + "/24", "--mac", mac}, {"--address", "fd00:99::7/64", "--mac", mac6}} {
		r := a.as(alice, append(append([]string{"run", "-d", "-w", "/tmp", "--net", "br0"}, net...), serve...)...).want(t, 0)
		(&job{t, strings.TrimSpace(r.out)}).ready(a)
	}
	outside := a.neighbour(a.address("88"))
	for _, n := range c.nodes {
		n.answersAt(a.address("77"))
		n.answersAt(a.address("88"))
	}
	const mine = "02:00:00:00:99:66"
	for _, c := range []struct {
		on      *node
		address string
		mac     string
		says    []string
	}{
		{a, a.address("77") + "/24", "", []string{"address " + a.address("77"), "by job"}},
		{a, a.address("77") + "/8", "", []string{"by job"}},
		{b, a.address("77") + "/24", "", []string{a.address("77") + " is in use on bridge br0: " + mac}},
		{a, "FD00:99:0:0::0007/48", "", []string{"address fd00:99::7", "by job"}},
		{b, "fd00:99::7/64", "", []string{"fd00:99::7 is in use on bridge br0: " + mac6}},
		{a, a.address("66") + "/24", mac, []string{"MAC " + mac, "by job"}},
		{b, a.address("66") + "/24", mac, []string{"MAC " + mac + " is in use on bridge br0"}},
		{a, a.address("66") + "/24", strings.ToUpper(strings.ReplaceAll(mac, ":", "-")), []string{"MAC " + mac, "by job"}},
		{a, a.ip + "/24", "", []string{"interface br0"}},
		{a, b.ip + "/24", "", []string{b.ip + " is in use on bridge br0"}},
		{a, a.address("88") + "/24", mine, []string{a.address("88") + " is in use on bridge br0: " + outside}},
		{b, a.address("88") + "/24", mine, []string{a.address("88") + " is in use on bridge br0: " + outside}},
		{a, a.address("255") + "/16", "", []string{"not " + a.address("255")}},
	} {
		args := []string{"run", "-d", "-w", "/tmp", "--net", "br0", "--address", c.address}
		if c.mac != "" {
			args = append(args, "--mac", c.mac)
		}
		c.on.as(mallory, append(args, "--", "sleep", "1000")...).want(t, 3).says(t, append(c.says, "nothing was started")...)
	}
	if list := a.as(mallory, "ps", "-a", "--json").want(t, 0).out; strings.Contains(list, `"id"`) {
		t.Errorf("left behind: %s", list)
	}
	conn, err := b.dial(a.address("77") + ":9000")
	c.must(err)
	c.must(errors.Join(echo(conn, "still here"), conn.Close()))
}

func TestNetworkRulesOfEachNodeGiveUsersTheirAddresses(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	rule := "br0=" + a.address("0") + "/24@" + alice
	start := []string{"run", "-d", "--user-ns", "-w", "/tmp", "--net", "br0", "--address", a.address("77") + "/24", "--", shared.oracle, "--count", "--mem", "8"}
	a.as(alice, start...).want(t, 3).says(t, "--network "+rule, "nothing was started")
	none := &job{t, strings.TrimSpace(a.as(alice, "run", "-d", "--user-ns", "-w", "/tmp", "--", shared.oracle, "--count", "--mem", "8").want(t, 0).out)}
	none.ready(a)
	none.finish(a)
	again := func(n *node, rules ...string) {
		n.kill()
		n.networks = rules
		n.start()
	}
	again(a, rule)
	a.as(mallory, start...).want(t, 3).says(t, "for members of "+alice)
	j := &job{t, strings.TrimSpace(a.as(alice, start...).want(t, 0).out)}
	j.ready(a)
	r := a.as(alice, "move", j.id, b.name).want(t, 3)
	r.says(t, "network-denied", "--network "+rule)
	j.ticks(a, 10)
	again(b, "br0="+a.address("70")+"-"+a.address("76")+"@"+alice)
	a.as(alice, "move", j.id, b.name).want(t, 3).says(t, "network-denied", "not "+a.address("77"))
	again(b, rule)
	a.as(alice, "move", j.id, b.name).want(t, 0)
	j.ticks(b, 10)
	a.answersAt(a.address("77"))
	again(b) // what runs goes on
	j.ticks(b, 10)
	dir := filepath.Join(c.dir, "alice")
	command(t, "install", "-d", "-o", alice, dir).want(t, 0)
	saved := filepath.Join(dir, "saved")
	b.as(alice, "checkpoint", j.id, saved).want(t, 0)
	b.as(alice, "restore", "-d", saved).want(t, 3).says(t, "network-denied", "--network "+rule)
	a.as(alice, "restore", "-d", saved).want(t, 0)
	j.ticks(a, 10)
	a.answersAt(a.address("77"))
	j.finish(a)
}

func TestRestoreRefusesANetworkAddressInUse(t *testing.T) {
	c := newCluster(t, 1)
	a := c.nodes[0]
	j := a.oracleIn([]string{"--net", "br0", "--address", a.address("77") + "/24"})
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", j.id, dir).want(t, 0)
	mac := a.neighbour(a.address("77"))
	a.answersAt(a.address("77"))
	a.migrate("restore", "-d", dir).want(t, 3).says(t, a.address("77")+" is in use on bridge br0: "+mac, dir)
	c.ip("-n", a.netns, "link", "del", "toward")
	other := a.oracleIn([]string{"--net", "br0", "--address", a.address("77") + "/24"})
	a.migrate("restore", "-d", dir).want(t, 3).says(t, "address-taken", other.id)
	other.finish(a)
	a.migrate("restore", "-d", dir).want(t, 0)
	j.ticks(a, 10)
	a.answersAt(a.address("77"))
	j.finish(a)
}

func TestNetworkRootOfAJobSendsFromItsOwnAddressOnly(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"without a user namespace": nil, "root of a user namespace": {"--user-ns"}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2)
			here, there := c.two()
			own, other, mac := here.address("77"), here.address("99"), "02:00:00:00:99:07"
			j := here.oracleIn(append(flags, "--net", "br0", "--address", own+"/24", "--mac", mac))
			in := func(script string) { here.migrate("exec", j.id, "sh", "-ec", script).want(t, 0) }
			address := func() {
				t.Helper()
				in("ip addr add " + other + "/24 dev eth0")
				here.silentAt(other)
				here.answersAt(own)
				there.answersAt(own)
				in("ip addr del " + other + "/24 dev eth0")
			}
			forged := func() {
				t.Helper()
				in("ip link set eth0 address 02:00:00:00:99:66; ip neigh flush dev eth0; ip route get " + here.ip)
				here.migrate("exec", j.id, "bash", "-c", "exec 3<>/dev/tcp/"+here.ip+"/9; true").want(t, 0)
				in("ip link set eth0 address " + mac)
				here.answersAt(own)
				if fdb := here.in("bridge", "fdb", "show", "br", "br0").want(t, 0).out; strings.Contains(fdb, "02:00:00:00:99:66") || !strings.Contains(fdb, mac) {
					t.Errorf("the bridge of %s knows %s", here.name, fdb)
				}
			}
			address()
			forged()
			here.kill()
			here.in("tc", "qdisc", "del", "dev", "mg"+j.id[1:], "clsact").want(t, 0)
			here.start() // which finds a port without a filter
			address()
			j.move(here, there)
			here, there = there, here
			address()
			if flags == nil { // with a network that CRIU saves
				in("ip addr add " + other + "/24 dev eth0")
				j.move(here, there)
				here, there = there, here
				here.silentAt(other)
				here.answersAt(own)
			}
			j.finish(here)
		})
	}
}
