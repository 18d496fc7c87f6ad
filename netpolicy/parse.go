package netpolicy

import (
	"errors"
	"fmt"
	"net/netip"
	"os/user"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/job"
)

// Policy are a node's rules.
type Policy []rule

type rule struct {
	bridge string
	ranges []addressRange
	group  *group // nil = all users
}

type group struct {
	name string
	gid  uint32
}

// addressRange is a subnet, or, if that is not valid, the addresses from first to last.
type addressRange struct {
	subnet      netip.Prefix
	first, last netip.Addr
}

const syntax = "use BRIDGE=RANGE[,RANGE...][@GROUP], each RANGE a subnet or FIRST-LAST: br0=10.0.0.0/24,fd00:3::10-fd00:3::99@hpc"

// Parse reads rules as an agent's flags have them. Groups are those of this node.
func Parse(flags []string) (Policy, error) {
	var p Policy
	for _, f := range flags {
		r, err := parseRule(f)
		if err != nil {
			return nil, fmt.Errorf("--network %s: %w", f, err)
		}
		p = append(p, r)
	}
	return p, nil
}

func parseRule(flag string) (r rule, err error) {
	bridge, rest, ok := strings.Cut(flag, "=")
	if !ok || bridge == "" || bridge == job.NetworkNone {
		return r, errors.New(syntax)
	}
	r.bridge = bridge
	ranges, name, limited := strings.Cut(rest, "@") // a name may have an @ of its own
	for _, text := range strings.Split(ranges, ",") {
		each, err := parseRange(text)
		if err != nil {
			return r, err
		}
		r.ranges = append(r.ranges, each)
	}
	if limited {
		r.group, err = findGroup(name)
	}
	return r, err
}

func parseRange(text string) (r addressRange, err error) {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		if r.subnet, err = netip.ParsePrefix(text); err != nil || r.subnet != r.subnet.Masked() || r.subnet.Addr().Is4In6() {
			return r, fmt.Errorf("%q is no subnet; %s", text, syntax)
		}
		return r, nil
	}
	from, err1 := netip.ParseAddr(first)
	to, err2 := netip.ParseAddr(last)
	if err1 != nil || err2 != nil || from.BitLen() != to.BitLen() || to.Less(from) || from.Zone() != "" || from.Is4In6() || to.Is4In6() {
		return r, fmt.Errorf("%q is no range of addresses; %s", text, syntax)
	}
	return addressRange{first: from, last: to}, nil
}

func findGroup(name string) (*group, error) {
	if gid, err := strconv.ParseUint(name, 10, 32); err == nil {
		return &group{name, uint32(gid)}, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return nil, fmt.Errorf("no group %q in /etc/group; if `getent group %s` finds one, name it by its number", name, name)
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	return &group{name, uint32(gid)}, err
}

func (r addressRange) contains(a netip.Addr) bool {
	if r.subnet.IsValid() {
		return r.subnet.Contains(a) && !job.NamesNetwork(r.subnet, a)
	}
	return a.BitLen() == r.first.BitLen() && !a.Less(r.first) && !r.last.Less(a)
}

func (r addressRange) String() string {
	if r.subnet.IsValid() {
		return r.subnet.String()
	}
	return r.first.String() + "-" + r.last.String()
}
