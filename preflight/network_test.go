package preflight

import (
	"net"
	"net/netip"
	"testing"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/netpolicy"
)

func onBridge(id job.ID, bridge, address, mac string) job.Record {
	return job.Record{ID: id, Spec: job.Spec{UID: 1000, GID: 1000, Network: job.Network{Mode: bridge, Address: address, MAC: mac}}}
}

func TestAnAddressHasOneHolder(t *testing.T) {
	const own = "02:00:00:00:00:07"
	here := func(change func(*job.Record)) []job.Record {
		r := onBridge("jbbbbbbbbbb", "br0", "10.0.0.8/24", "02:00:00:00:00:08")
		change(&r)
		return []job.Record{r}
	}
	address := func(a string) []job.Record { return here(func(r *job.Record) { r.Spec.Network.Address = a }) }
	mac := func(m string) []job.Record { return here(func(r *job.Record) { r.Spec.Network.MAC = m }) }
	for name, c := range map[string]struct {
		address string
		here    []job.Record
		want    []Code
	}{
		"nobody":                      {"10.0.0.7/24", nil, nil},
		"a neighbour":                 {"10.0.0.7/24", here(func(*job.Record) {}), nil},
		"same address":                {"10.0.0.7/24", address("10.0.0.7/24"), []Code{AddressTaken}},
		"in another network":          {"10.0.0.7/24", address("10.0.0.7/8"), []Code{AddressTaken}},
		"on another bridge":           {"10.0.0.7/24", here(func(r *job.Record) { r.Spec.Network.Mode, r.Spec.Network.Address = "br1", "10.0.0.7/24" }), nil},
		"IPv6":                        {"fd00::7/64", address("fd00::7/64"), []Code{AddressTaken}},
		"IPv6, spelled another way":   {"fd00::7/64", address("FD00:0:0:0::0007/48"), []Code{AddressTaken}},
		"same MAC":                    {"10.0.0.7/24", mac(own), []Code{AddressTaken}},
		"same MAC with dashes":        {"10.0.0.7/24", mac("02-00-00-00-00-07"), []Code{AddressTaken}},
		"same MAC as a router has it": {"10.0.0.7/24", mac("0200.0000.0007"), []Code{AddressTaken}},
		"the job itself":              {"10.0.0.7/24", []job.Record{onBridge("jaaaaaaaaaa", "br0", "10.0.0.7/24", own)}, nil},
		"a job that is over": {"10.0.0.7/24", here(func(r *job.Record) {
			r.Spec.Network.Address, r.Exit = "10.0.0.7/24", &job.Exit{}
		}), nil},
		"a job that has left": {"10.0.0.7/24", here(func(r *job.Record) {
			r.Spec.Network.Address, r.MovedTo = "10.0.0.7/24", &job.Moved{}
		}), nil},
		"a job without a link": {"10.0.0.7/24", here(func(r *job.Record) { r.Spec.Network = job.Network{Address: "10.0.0.7/24", MAC: own} }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := identityOf(job.Network{Mode: "br0", Address: c.address, MAC: own})
			if err != nil {
				t.Fatal(err)
			}
			var r report
			i.judgeJobs(&r, "jaaaaaaaaaa", c.here)
			wantCodes(t, r.findings(), c.want...)
		})
	}
}

func TestWhatIsTheNodesOwnIsNoJobs(t *testing.T) {
	card := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	own := []network.NodeInterface{
		{Name: "lo", Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
		{Name: "br0", MAC: card, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}},
		{Name: "eth1", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}},
	}
	gateways := []netip.Addr{netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("fd00::254")}
	for address, want := range map[string][]Code{
		"10.0.0.7/24": nil, "fd00::7/64": nil, "10.9.0.255/16": nil, "10.0.1.255/16": nil,
		"10.0.0.1/24": {AddressTaken}, "10.0.0.1/32": {AddressTaken}, "fd00:0::1/64": {AddressTaken}, "10.9.0.1/16": {AddressTaken},
		"10.0.0.254/24": {AddressTaken}, "fd00::254/64": {AddressTaken},
		"10.0.0.255/16": {AddressTaken}, "10.0.0.0/16": {AddressTaken}, "fd00::/48": {AddressTaken},
	} {
		i, err := identityOf(job.Network{Mode: "br0", Address: address, MAC: "02:00:00:00:00:07"})
		if err != nil {
			t.Fatal(err)
		}
		var r report
		i.judgeOwn(&r, own, gateways)
		t.Log(address)
		wantCodes(t, r.findings(), want...)
		i.mac = card
		i.address = netip.MustParsePrefix("10.0.0.7/24")
		r = report{}
		i.judgeOwn(&r, own, gateways)
		wantCodes(t, r.findings(), AddressTaken)
	}
}

func TestAUsersJobComesOnlyWhereTheNodesRulesAllowIt(t *testing.T) {
	rec := onBridge("jaaaaaaaaaa", "br0", "10.0.0.7/24", "02:00:00:00:00:07")
	for want, flags := range map[Code][]string{"": {"br0=10.0.0.0/24@1000"}, NetworkDenied: {"br0=10.0.0.0/24@1001", "br1=10.0.0.0/24"}} {
		rules, err := netpolicy.Parse(flags)
		if err != nil {
			t.Fatal(err)
		}
		findings, err := CheckNetwork(rec, Node{Networks: rules})
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			wantCodes(t, findings)
		} else {
			wantCodes(t, findings, want)
		}
	}
	rec.Spec.Network = job.Network{}
	if findings, err := CheckNetwork(rec, Node{}); err != nil || len(findings) > 0 {
		t.Errorf("a job without a bridge: %v, %v", findings, err)
	}
}
