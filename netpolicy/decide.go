package netpolicy

import (
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/job"
)

// Denial is why a job may not have the network that it asks for, and what to do.
type Denial struct{ Cause, Remedy string }

// Judge says why a job may not use its bridge and addresses on this node; nil is that it
// may. The user and groups of a job that comes from elsewhere are its node's word.
func (p Policy) Judge(s job.Spec) *Denial {
	if !s.Network.Bridged() || s.UID == 0 {
		return nil
	}
	prefix, err := netip.ParsePrefix(s.Network.Address)
	if err != nil {
		return &Denial{fmt.Sprintf("%.60q is no address", s.Network.Address), "use `migrate run --address` with one such as 10.0.0.7/24"}
	}
	if why := p.bridge(s, prefix.Addr()); why != "" {
		return &Denial{why, fmt.Sprintf("have an operator of this node add `%s` to the flags of its `migrate agent` and restart that; `--net none` needs no right", flagFor(s, prefix))}
	}
	if mac, err := net.ParseMAC(s.Network.MAC); err == nil && mac[0]&localMAC == 0 {
		return &Denial{fmt.Sprintf("MAC %s may be that of a network card, which a plain user's job cannot have", mac), "`migrate run` without --mac makes one up; or take one that begins with 02"}
	}
	return nil
}

// localMAC marks, in the first byte, MACs that no maker has given to a card (IEEE 802).
const localMAC = 2

// bridge says why none of the rules allows the address; "" is that one does.
func (p Policy) bridge(s job.Spec, a netip.Addr) string {
	var groups, ranges []string
	for _, r := range p {
		if r.bridge != s.Network.Mode {
			continue
		}
		if !r.admits(s) {
			groups = append(groups, r.group.name)
			continue
		}
		for _, each := range r.ranges {
			if each.contains(a) {
				return ""
			}
			ranges = append(ranges, each.String())
		}
	}
	switch {
	case ranges != nil:
		return fmt.Sprintf("user %d may have addresses of %s on bridge %s of this node, not %s", s.UID, strings.Join(ranges, ", "), s.Network.Mode, a)
	case groups != nil:
		return fmt.Sprintf("bridge %s of this node is for members of %s, of which user %d is none", s.Network.Mode, strings.Join(groups, ", "), s.UID)
	}
	return fmt.Sprintf("no user but root may use bridge %s of this node", s.Network.Mode)
}

func (r rule) admits(s job.Spec) bool {
	return r.group == nil || r.group.gid == s.GID || slices.Contains(s.Groups, r.group.gid)
}

// flagFor is the rule that would allow what a job asks for, and not much more.
func flagFor(s job.Spec, asked netip.Prefix) string {
	name := strconv.FormatUint(uint64(s.GID), 10)
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	return fmt.Sprintf("--network %s=%s@%s", s.Network.Mode, asked.Masked(), name)
}
