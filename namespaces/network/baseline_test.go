package network

import (
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// netHolder is a process that does nothing in a network namespace of its own.
func netHolder(t *testing.T) int {
	t.Helper()
	testenv.NeedRoot(t)
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	return cmd.Process.Pid
}

// within runs a shell in the network namespace of pid.
func within(t *testing.T, pid int, script string) {
	t.Helper()
	out, err := exec.Command("nsenter", "--net=/proc/"+strconv.Itoa(pid)+"/ns/net", "sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// connected is a job's fresh network on a node that has the bridge br0.
func connected(t *testing.T, i *Interface) int {
	t.Helper()
	node, pid := netHolder(t), netHolder(t)
	within(t, node, "ip link add br0 type bridge; ip link set br0 up")
	err := osthread.Throwaway(func() error {
		if err := Enter(node); err != nil {
			return err
		}
		return SetUp(pid, i)
	})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func fresh(t *testing.T) Baseline {
	t.Helper()
	testenv.NeedRoot(t)
	f, err := NewBaseline()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var (
	fourth = Interface{Name: "eth0", Host: "mghost", Bridge: "br0", Address: "10.3.0.7/24", Gateway: "10.3.0.1", MAC: "02:00:00:00:03:07"}
	sixth  = Interface{Name: "eth0", Host: "mghost", Bridge: "br0", Address: "fd00:3::7/64", Gateway: "fd00:3::1", MAC: "02:00:00:00:03:07"}
)

func TestANetworkAsItWasGivenIsUntouched(t *testing.T) {
	f := fresh(t)
	alone := fourth
	alone.Gateway = ""
	for name, i := range map[string]*Interface{"loopback only": nil, "IPv4": &fourth, "IPv6": &sixth, "no gateway": &alone} {
		if what, err := f.Diff(connected(t, i), i); what != "" || err != nil {
			t.Errorf("%s: %s, %v", name, what, err)
		}
	}
}

func TestWhateverAJobChangesInItsNetworkIsSeen(t *testing.T) {
	f := fresh(t)
	for change, say := range map[string]string{
		"ip link add other type bridge; ip link set other up":                  "other",
		"ip link add other type bridge":                                        "other",
		"ip link set eth0 down":                                                "eth0",
		"ip link set lo down":                                                  "lo",
		"ip link set eth0 mtu 1400":                                            "1400",
		"ip link set eth0 down; ip link set eth0 address 02:00:00:00:99:99 up": "99:99",
		"ip link del eth0":                                                     "1 interfaces of 2",
		"ip addr add 10.9.0.1/24 dev eth0":                                     "10.9.0.1/24",
		"ip addr add 10.3.0.8/24 dev eth0":                                     "10.3.0.8/24",
		"ip addr add 127.0.0.2/8 dev lo":                                       "127.0.0.2/8",
		"ip addr del 10.3.0.7/24 dev eth0":                                     "no address 10.3.0.7/24",
		"ip addr add fd00::1/64 dev eth0 nodad":                                "fd00::1/64",
		"ip addr add fe80::1/64 dev eth0 nodad":                                "fe80::1/64",
		"ip route add 10.20.0.0/16 via 10.3.0.2":                               "10.20.0.0/16",
		"ip route add 10.20.0.0/16 via 10.3.0.2 table 77":                      "10.20.0.0/16",
		"ip route del default":                                                 "no default route",
		"ip route replace default via 10.3.0.2":                                "10.3.0.2",
		"ip rule add from 10.3.0.7 table 77":                                   "table 77",
		"ip rule del table default":                                            "rules",
		"ip -6 rule add from fd00::/8 table 77":                                "table 77",
		"nft add table inet mine":                                              "nftables",
		"iptables-legacy -A INPUT -p tcp --dport 9 -j DROP":                    "iptables",
		"ip6tables-legacy -A INPUT -p tcp --dport 9 -j DROP":                   "iptables",
		"echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 2 >/proc/sys/net/ipv4/conf/all/rp_filter": "rp_filter",
		"echo 1 >/proc/sys/net/ipv4/conf/eth0/proxy_arp":                                               "proxy_arp",
		"echo 1 >/proc/sys/net/ipv4/ip_forward":                                                        "/proc/sys/net/ipv4/conf",
		"echo 1 >/proc/sys/net/ipv6/conf/default/hop_limit":                                            "hop_limit",
		"echo '0 100' >/proc/sys/net/ipv4/ping_group_range":                                            "ping_group_range",
		"echo 77 >/proc/sys/net/unix/max_dgram_qlen":                                                   "max_dgram_qlen",
	} {
		t.Run(change, func(t *testing.T) {
			if tool := strings.Fields(change)[0]; !slices.Contains([]string{"ip", "echo"}, tool) {
				if _, err := exec.LookPath(tool); err != nil {
					testenv.Missing(t, "%s is not installed", tool)
				}
			}
			pid := connected(t, &fourth)
			within(t, pid, change)
			what, err := f.Diff(pid, &fourth)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(what, say) {
				t.Errorf("it says %q, nothing of %q", what, say)
			}
		})
	}
}

func TestTheNetworkOfAProcessThatIsGoneCannotBeTold(t *testing.T) {
	if what, err := fresh(t).Diff(1<<30, nil); err == nil {
		t.Errorf("it says %q", what)
	}
}
