package job

import (
	"errors"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// private are the trees that every job has for itself; a bind onto them would be hidden or would
// take away what the job and its restore rely on.
var private = []string{"/proc", "/dev"}

func (s Spec) checkBinds() error {
	const remedy = "use `migrate run --bind /SOURCE:/TARGET[:ro]`"
	if len(s.Binds) > MaxBinds {
		return wrong("binds", "bind a directory above them instead: `migrate run --bind /DIR`", "%d binds, at most %d are possible", len(s.Binds), MaxBinds)
	}
	var errs []error
	seen := map[string]bool{}
	for _, b := range s.Binds {
		errs = append(errs, checkPath("binds", b.Source, "--bind"), checkPath("binds", b.Target, "--bind"))
		target := path.Clean(b.Target)
		if target == "/" || slices.ContainsFunc(private, func(p string) bool { return within(target, p) }) {
			errs = append(errs, wrong("binds", remedy, "%.80q is part of what every job has for itself", b.Target))
		}
		if seen[target] {
			errs = append(errs, wrong("binds", remedy, "%.80q is the target of two binds", b.Target))
		}
		seen[target] = true
	}
	return errors.Join(errs...)
}

func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func (s Spec) checkRlimits() error {
	var errs []error
	seen := map[string]bool{}
	for _, r := range s.Rlimits {
		remedy := "use `migrate run --ulimit NAME=SOFT:HARD`, NAME one of " + strings.Join(rlimits, " ")
		if !slices.Contains(rlimits, r.Name) {
			errs = append(errs, wrong("rlimits", remedy, "the kernel has no limit %.40q", r.Name))
		}
		if r.Soft > r.Hard {
			errs = append(errs, wrong("rlimits", remedy, "%.40q has a soft limit above its hard limit", r.Name))
		}
		if seen[r.Name] {
			errs = append(errs, wrong("rlimits", remedy, "%.40q is there twice", r.Name))
		}
		seen[r.Name] = true
	}
	return errors.Join(errs...)
}

func (s Spec) checkLimits() error {
	var errs []error
	for _, l := range []struct {
		field, flag string
		value       int64
	}{
		{"limits.memory_bytes", "--memory", s.Limits.MemoryBytes},
		{"limits.cpu_milli", "--cpus", s.Limits.CPUMilli},
		{"limits.pids", "--pids-limit", s.Limits.Pids},
		{"output_limit", "--output-limit", s.OutputLimit},
	} {
		if l.value < 0 {
			errs = append(errs, wrong(l.field, "use `migrate run "+l.flag+"` with a positive number, or leave it out for no limit",
				"%d is below zero", l.value))
		}
	}
	return errors.Join(errs...)
}

// maxInterface is IFNAMSIZ without its NUL, include/uapi/linux/if.h.
const maxInterface = 15

func (n Network) check() error {
	if !n.Bridged() {
		if n.Address != "" || n.Gateway != "" || n.MAC != "" {
			return wrong("network", "add `migrate run --net BRIDGE`, or leave address, gateway and MAC out",
				"a job without a link cannot have an address")
		}
		return nil
	}
	var errs []error
	if len(n.Mode) > maxInterface || !onlyHas(n.Mode, nameChars) || n.Mode == "." || n.Mode == ".." {
		errs = append(errs, wrong("network.mode", "use `migrate run --net none` or `migrate run --net BRIDGE`; `ip link show type bridge` lists them",
			"%.40q cannot be the name of a bridge: at most %d of A-Z a-z 0-9 . _ -", n.Mode, maxInterface))
	}
	return errors.Join(append(errs, n.checkAddress(), n.checkMAC())...)
}

func (n Network) checkAddress() error {
	prefix, err := netip.ParsePrefix(n.Address)
	if err != nil || !usable(prefix) {
		return wrong("network.address", "use `migrate run --address` with one such as 10.0.0.7/24",
			"%.60q is not the address of one host with its prefix length, and the job keeps its address when it moves", n.Address)
	}
	if n.Gateway == "" {
		return nil
	}
	gateway, err := netip.ParseAddr(n.Gateway)
	if err != nil || !prefix.Contains(gateway) || gateway == prefix.Addr() {
		return wrong("network.gateway", "use `migrate run --gateway` with another address of "+prefix.Masked().String(),
			"%.60q cannot be reached from %s directly", n.Gateway, n.Address)
	}
	return nil
}

// never are IPv4 addresses that no host has: this network, and the reserved ones, of which
// the last is everybody's (RFC 6890).
var never = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4")}

func usable(p netip.Prefix) bool {
	a := p.Addr()
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is4In6() {
		return false
	}
	if slices.ContainsFunc(never, func(n netip.Prefix) bool { return n.Contains(a) }) {
		return false
	}
	return !NamesNetwork(p, a)
}

// NamesNetwork tells whether an address of the network p is no host's: the network itself,
// which of IPv6 all its routers have (RFC 4291, section 2.6.1), and the one for broadcasts.
func NamesNetwork(p netip.Prefix, a netip.Addr) bool {
	if p.Bits() >= a.BitLen()-1 || !p.Contains(a) { // links of two hosts have no such addresses
		return false
	}
	outside := !p.Contains(a.Next()) || a.Next() == netip.Addr{}
	return a == p.Masked().Addr() || a.Is4() && outside
}

func (n Network) checkMAC() error {
	if n.MAC == "" {
		return nil
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || slices.Max(mac) == 0 {
		return wrong("network.mac", "use `migrate run --mac` with one such as 02:00:00:00:00:07, or leave it out",
			"%.40q is not the 6-byte address of one interface", n.MAC)
	}
	return nil
}
