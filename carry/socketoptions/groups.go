package socketoptions

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// group is a multicast group that a socket has joined on an interface.
type group struct {
	Interface uint32     `json:"interface"` // index, the same on both nodes
	Address   netip.Addr `json:"address"`
	// Only says that the socket takes nothing in but what Sources send. Without it, it takes in what
	// others send.
	Only    bool         `json:"only,omitempty"`
	Sources []netip.Addr `json:"sources,omitempty"`
}

// The layout of struct group_filter and struct group_req, include/uapi/linux/in.h.
const (
	addressSize  = 128 // struct sockaddr_storage
	groupAt      = 8
	filterModeAt = groupAt + addressSize
	sourcesAt    = filterModeAt + 8
	onlySources  = 1 // MCAST_INCLUDE; MCAST_EXCLUDE is 0
)

// maxSources bounds how many sources a socket may name in a group: igmp_max_msf and mld_max_msf
// allow 10 and 64 unless an operator raises them.
const maxSources = 512

// joinedGroups lists the groups that any socket in the network of process pid has joined.
func joinedGroups(pid int) (list []group, err error) {
	for name, parse := range map[string]func(string) []group{"igmp": parseIGMP, "igmp6": parseIGMP6} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without it
		}
		if err != nil {
			return nil, err
		}
		list = append(list, parse(string(text))...)
	}
	return list, nil
}

// parseIGMP parses /proc/net/igmp: a line for an interface, and then one for each of its groups,
// whose addresses are numbers of this machine's byte order.
func parseIGMP(text string) (list []group) {
	index := uint64(0)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if !strings.HasPrefix(line, "\t") {
			index, _ = strconv.ParseUint(f[0], 10, 32) // the headline has none
			continue
		}
		n, err := strconv.ParseUint(f[0], 16, 32)
		if err != nil || index == 0 {
			continue
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(n))
		list = append(list, group{Interface: uint32(index), Address: netip.AddrFrom4(b)})
	}
	return list
}

// parseIGMP6 parses /proc/net/igmp6: index, name and address on each line.
func parseIGMP6(text string) (list []group) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		index, err := strconv.ParseUint(f[0], 10, 32)
		address, bad := hex.DecodeString(f[2])
		if ip, ok := netip.AddrFromSlice(address); err == nil && bad == nil && ok {
			list = append(list, group{Interface: uint32(index), Address: ip})
		}
	}
	return list
}

// groupsOf returns those of the groups that a socket has joined, with its sources.
func groupsOf(fd int, k kind, all []group) (joined []group, err error) {
	if !k.multicast() {
		return nil, nil
	}
	for _, g := range all {
		if g.Address.Is6() && !k.inet6() {
			continue
		}
		is, err := g.ask(fd)
		if err != nil {
			return nil, err
		}
		if is {
			joined = append(joined, g)
		}
	}
	return joined, nil
}

// ask fills in the sources. It returns false if the socket has not joined the group.
func (g *group) ask(fd int) (bool, error) {
	for n := 16; n <= maxSources; n *= 2 {
		b := g.encode(sourcesAt + n*addressSize)
		binary.NativeEndian.PutUint32(b[filterModeAt+4:], uint32(n))
		b, err := getsockopt(fd, g.level(), unix.MCAST_MSFILTER, b)
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP) {
			return false, nil
		}
		if err != nil || len(b) < sourcesAt {
			return false, fmt.Errorf("ask for the group %s: %w", g.Address, err)
		}
		count := int(binary.NativeEndian.Uint32(b[filterModeAt+4:]))
		if count > n {
			continue
		}
		g.Only = binary.NativeEndian.Uint32(b[filterModeAt:]) == onlySources
		for at := sourcesAt; at+addressSize <= len(b) && len(g.Sources) < count; at += addressSize {
			g.Sources = append(g.Sources, decodeAddress(b[at:]))
		}
		return true, nil
	}
	return false, fmt.Errorf("the group %s has more than %d sources", g.Address, maxSources)
}

// join has the socket join the group, and take in what it took in before.
func (g group) join(fd int) error {
	err := unix.SetsockoptString(fd, g.level(), unix.MCAST_JOIN_GROUP, string(g.encode(filterModeAt)))
	if errors.Is(err, unix.EADDRINUSE) {
		err = nil
	}
	if err == nil && (g.Only || len(g.Sources) > 0) {
		b := g.encode(sourcesAt + len(g.Sources)*addressSize)
		if g.Only {
			binary.NativeEndian.PutUint32(b[filterModeAt:], onlySources)
		}
		binary.NativeEndian.PutUint32(b[filterModeAt+4:], uint32(len(g.Sources)))
		for i, s := range g.Sources {
			encodeAddress(b[sourcesAt+i*addressSize:], s)
		}
		err = unix.SetsockoptString(fd, g.level(), unix.MCAST_MSFILTER, string(b))
	}
	if err != nil {
		return fmt.Errorf("join %s on interface %d: %w", g.Address, g.Interface, err)
	}
	return nil
}

// valid tells whether the kernel is to be asked for it at all.
func (g group) valid() bool {
	return g.Address.IsMulticast() && g.Address.Zone() == "" && len(g.Sources) <= maxSources && g.Interface <= 1<<31-1 &&
		!slices.ContainsFunc(g.Sources, func(s netip.Addr) bool { return s.Zone() != "" || s.Is4() != g.Address.Is4() })
}

func (g group) level() int {
	if g.Address.Is4() {
		return unix.SOL_IP
	}
	return unix.SOL_IPV6
}

// encode is the beginning of both structures, in so many bytes.
func (g group) encode(size int) []byte {
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, g.Interface)
	encodeAddress(b[groupAt:], g.Address)
	return b
}

func encodeAddress(b []byte, a netip.Addr) {
	if a.Is4() {
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		copy(b[4:], a.AsSlice())
		return
	}
	binary.NativeEndian.PutUint16(b, unix.AF_INET6)
	copy(b[8:], a.AsSlice())
}

func decodeAddress(b []byte) netip.Addr {
	if binary.NativeEndian.Uint16(b) == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b[4:8]))
	}
	return netip.AddrFrom16([16]byte(b[8:24]))
}
