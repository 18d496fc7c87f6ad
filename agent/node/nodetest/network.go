package nodetest

import (
	"crypto/rand"
	"net"
	"testing"

	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/netpolicy"
)

// AllowNetworks gives a node rules for networks, as the option --network has them.
func AllowNetworks(t testing.TB, n *node.Node, flags ...string) {
	t.Helper()
	var err error
	if n.Config.Networks, err = netpolicy.Parse(flags); err != nil {
		t.Fatal(err)
	}
}

// Bridged is a job of a plain user with an address of TEST-NET-3, which no node has.
func Bridged(address string) job.Record {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0} // locally administered
	rand.Read(mac[1:])
	return job.Record{ID: job.NewID(), Spec: job.Spec{Args: []string{"true"}, UID: 1000, GID: 1000,
		Network: job.Network{Mode: "br0", Address: address, MAC: mac.String()}}}
}
