package preflight

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/namespaces/network/antispoof"
)

// CheckNetwork says why this node cannot give a job its bridge, address and MAC. The job is
// started here or comes from another node. Only the network itself can say whether a host beyond
// this node has them.
func CheckNetwork(rec job.Record, node Node) ([]Finding, error) {
	if !rec.Spec.Network.Bridged() {
		return nil, nil
	}
	want, err := identityOf(rec.Spec.Network)
	if err != nil {
		return nil, err
	}
	own, gateways, err := network.OfNode()
	if err != nil {
		return nil, err
	}
	var r report
	if denied := node.Networks.Judge(rec.Spec); denied != nil {
		r.add(NetworkDenied, denied.Remedy, "%s", denied.Cause)
	}
	if err := antispoof.Usable(); err != nil {
		r.add(FilterMissing, "load them: `modprobe -a sch_ingress cls_bpf`", "this node cannot keep the job from sending as another: %v", err)
	}
	want.judgeJobs(&r, rec.ID, node.Jobs)
	want.judgeOwn(&r, own, gateways)
	return r.findings(), nil
}

// identity is what others know a job by on its bridge.
type identity struct {
	bridge  string
	address netip.Prefix
	mac     net.HardwareAddr
}

func identityOf(n job.Network) (i identity, err error) {
	i.bridge = n.Mode
	if i.address, err = netip.ParsePrefix(n.Address); err != nil {
		return i, err
	}
	i.mac, err = net.ParseMAC(n.MAC)
	return i, err
}

// judgeJobs compares the job's identity with those of the jobs that are here. Two bridges
// may be one network elsewhere, so that it matters on none of them which it is.
func (i identity) judgeJobs(r *report, id job.ID, here []job.Record) {
	for _, other := range here {
		if !other.Here() || other.ID == id || !other.Spec.Network.Bridged() {
			continue
		}
		have, err := identityOf(other.Spec.Network)
		if err != nil || have.bridge != i.bridge {
			continue // it has no interface, or the two bridges have no common host
		}
		what := ""
		switch {
		case have.address.Addr() == i.address.Addr():
			what = "address " + i.address.Addr().String()
		case bytes.Equal(have.mac, i.mac):
			what = "MAC " + i.mac.String()
		default:
			continue
		}
		r.add(AddressTaken, "wait for the end of that job with `migrate wait "+string(other.ID)+"`, or choose another node; a job keeps its address",
			"%s is in use on this node, by job %s on bridge %s", what, other.ID, have.bridge)
	}
}

// judgeOwn compares the job's identity with those of the node itself, its bridge and the
// gateways that it sends to.
func (i identity) judgeOwn(r *report, own []network.NodeInterface, gateways []netip.Addr) {
	taken := func(cause string, args ...any) {
		r.add(AddressTaken, "start the job with another one: `migrate run --net BRIDGE --address IP/LEN …`", cause, args...)
	}
	a := i.address.Addr()
	for _, n := range own {
		if bytes.Equal(n.MAC, i.mac) {
			taken("MAC %s is that of this node's interface %s", i.mac, n.Name)
		}
		for _, p := range n.Addresses {
			switch {
			case p.Addr() == a:
				taken("address %s is that of this node's interface %s", a, n.Name)
			case n.Name == i.bridge && job.NamesNetwork(p, a):
				taken("address %s is that of a whole network, %s on bridge %s", a, p.Masked(), i.bridge)
			}
		}
	}
	if slices.Contains(gateways, a) {
		taken("address %s is that of a gateway of this node", a)
	}
}
