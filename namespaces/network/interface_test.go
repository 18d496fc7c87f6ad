package network

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

// asNode runs do in the network namespace of pid.
func asNode(t *testing.T, pid int, do func() error) error {
	t.Helper()
	return osthread.Throwaway(func() error {
		if err := Enter(pid); err != nil {
			t.Error(err)
		}
		return do()
	})
}

// call opens a connection to a port without a server. The error says whether a host answers. An IP
// address is dialled on the calling thread.
func call(address string) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "9"), time.Second)
	if err == nil {
		_ = conn.Close() // the test fails, for there is no such server
	}
	return err
}

func unheard(err error) bool {
	e := net.Error(nil)
	return errors.Is(err, unix.EHOSTUNREACH) || errors.As(err, &e) && e.Timeout()
}

func TestNobodyMeetsAJobsAddressBeforeItIsConnectedAndThenItIsAnnounced(t *testing.T) {
	for name, of := range map[string]struct {
		i    Interface
		node string // the node's own address in the job's network
	}{"IPv4": {fourth, "10.3.0.1/24"}, "IPv6": {sixth, "fd00:3::1/64"}} {
		t.Run(name, func(t *testing.T) {
			node, job := netHolder(t), netHolder(t)
			own, _, _ := strings.Cut(of.node, "/")
			address, _, _ := strings.Cut(of.i.Address, "/")
			within(t, node, "ip link add br0 address 02:00:00:00:00:01 type bridge; ip link set br0 up; ip addr add "+of.node+" dev br0 nodad")
			if err := asNode(t, node, func() error { return SetUp(job, &of.i) }); err != nil {
				t.Fatal(err)
			}
			if err := asNode(t, node, func() error { return call(address) }); !unheard(err) {
				t.Errorf("a call to the job before: %v", err)
			}
			if err := asNode(t, job, func() error { return call(own) }); !unheard(err) {
				t.Errorf("a call from the job before: %v", err)
			}
			within(t, node, "ip neigh replace "+address+" lladdr 02:00:00:00:99:99 dev br0 nud stale")
			if err := asNode(t, node, func() error { return of.i.Connect(job) }); err != nil {
				t.Fatal(err)
			}
			within(t, node, "ip neigh show "+address+" | grep -q "+of.i.MAC)
			for what, side := range map[string]struct {
				pid int
				to  string
			}{"to": {node, address}, "from": {job, own}} {
				eventually(t, "a call "+what+" the job after is answered", func() bool { // who has just asked in vain asks again in a second
					return errors.Is(asNode(t, side.pid, func() error { return call(side.to) }), unix.ECONNREFUSED)
				})
			}
			if what, err := fresh(t).Diff(job, &of.i); what != "" || err != nil {
				t.Errorf("the job's network differs from a fresh one: %s, %v", what, err)
			}
		})
	}
}
