package socketoptions

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// option is a socket option that CRIU does not carry, or not for all kinds.
type option struct {
	name          string
	level, number int
	size          int             // of its value, at most; 0 for an int
	on            func(kind) bool // the kinds of sockets that have it
	most          uint32          // of an int: what the kernel shows above that nobody has asked for, and it takes none; 0 is any
	unconnected   bool            // it can only be set on a TCP socket without a connection, or reads as something else on others
}

var peekOffset = option{name: "SO_PEEK_OFF", level: unix.SOL_SOCKET, number: unix.SO_PEEK_OFF}

// options are in the order in which they are set.
var options = slices.Concat(
	rows(anySocket, unix.SOL_SOCKET, []option{
		{name: "SO_DEBUG", number: unix.SO_DEBUG},
		{name: "SO_TIMESTAMP", number: 29}, // of the old kind, by number: their names depend on the machine
		{name: "SO_TIMESTAMPNS", number: 35},
		{name: "SO_TIMESTAMP_NEW", number: 63},
		{name: "SO_TIMESTAMPNS_NEW", number: 64},
		{name: "SO_TIMESTAMPING", number: 37},
		{name: "SO_RXQ_OVFL", number: unix.SO_RXQ_OVFL},
		peekOffset,
		{name: "SO_NOFCS", number: unix.SO_NOFCS},
		{name: "SO_SELECT_ERR_QUEUE", number: unix.SO_SELECT_ERR_QUEUE},
		{name: "SO_BUSY_POLL", number: unix.SO_BUSY_POLL},
		{name: "SO_PREFER_BUSY_POLL", number: unix.SO_PREFER_BUSY_POLL},
		{name: "SO_MAX_PACING_RATE", number: unix.SO_MAX_PACING_RATE, size: 8},
		{name: "SO_ZEROCOPY", number: unix.SO_ZEROCOPY},
		{name: "SO_TXTIME", number: unix.SO_TXTIME, size: 8},
		{name: "SO_TXREHASH", number: unix.SO_TXREHASH},
		{name: "SO_RCVMARK", number: unix.SO_RCVMARK},
		{name: "SO_PASSPIDFD", number: unix.SO_PASSPIDFD},
	}),
	rows(kind.inet, unix.SOL_IP, []option{
		{name: "IP_TOS", number: unix.IP_TOS}, // CRIU carries it and the next one for IPv4 only
		{name: "IP_TTL", number: unix.IP_TTL},
		{name: "IP_OPTIONS", number: unix.IP_OPTIONS, size: 40},
		{name: "IP_RETOPTS", number: unix.IP_RETOPTS},
		{name: "IP_MTU_DISCOVER", number: unix.IP_MTU_DISCOVER},
		{name: "IP_RECVERR", number: unix.IP_RECVERR},
		{name: "IP_RECVERR_RFC4884", number: unix.IP_RECVERR_RFC4884},
		{name: "IP_RECVTTL", number: unix.IP_RECVTTL},
		{name: "IP_RECVTOS", number: unix.IP_RECVTOS},
		{name: "IP_RECVORIGDSTADDR", number: unix.IP_RECVORIGDSTADDR},
		{name: "IP_RECVFRAGSIZE", number: unix.IP_RECVFRAGSIZE},
		{name: "IP_PASSSEC", number: unix.IP_PASSSEC},
		{name: "IP_TRANSPARENT", number: unix.IP_TRANSPARENT},
		{name: "IP_MINTTL", number: unix.IP_MINTTL},
		{name: "IP_CHECKSUM", number: unix.IP_CHECKSUM},
		{name: "IP_BIND_ADDRESS_NO_PORT", number: unix.IP_BIND_ADDRESS_NO_PORT},
		{name: "IP_LOCAL_PORT_RANGE", number: 51},
		{name: "IP_UNICAST_IF", number: unix.IP_UNICAST_IF},
	}),
	rows(kind.inet6, unix.SOL_IPV6, []option{
		{name: "IPV6_UNICAST_HOPS", number: unix.IPV6_UNICAST_HOPS},
		{name: "IPV6_UNICAST_IF", number: 76},
		{name: "IPV6_MTU_DISCOVER", number: unix.IPV6_MTU_DISCOVER},
		{name: "IPV6_RECVERR", number: unix.IPV6_RECVERR},
		{name: "IPV6_RECVERR_RFC4884", number: unix.IPV6_RECVERR_RFC4884},
		{name: "IPV6_RECVHOPLIMIT", number: unix.IPV6_RECVHOPLIMIT},
		{name: "IPV6_RECVTCLASS", number: unix.IPV6_RECVTCLASS},
		{name: "IPV6_RECVRTHDR", number: unix.IPV6_RECVRTHDR},
		{name: "IPV6_RECVHOPOPTS", number: unix.IPV6_RECVHOPOPTS},
		{name: "IPV6_RECVDSTOPTS", number: unix.IPV6_RECVDSTOPTS},
		{name: "IPV6_RECVPATHMTU", number: unix.IPV6_RECVPATHMTU},
		{name: "IPV6_RECVORIGDSTADDR", number: unix.IPV6_RECVORIGDSTADDR},
		{name: "IPV6_RECVFRAGSIZE", number: unix.IPV6_RECVFRAGSIZE},
		{name: "IPV6_TCLASS", number: unix.IPV6_TCLASS},
		{name: "IPV6_DONTFRAG", number: unix.IPV6_DONTFRAG},
		{name: "IPV6_AUTOFLOWLABEL", number: unix.IPV6_AUTOFLOWLABEL},
		{name: "IPV6_FLOWINFO_SEND", number: 33},
		{name: "IPV6_ADDR_PREFERENCES", number: unix.IPV6_ADDR_PREFERENCES},
		{name: "IPV6_MINHOPCOUNT", number: unix.IPV6_MINHOPCOUNT},
		{name: "IPV6_TRANSPARENT", number: unix.IPV6_TRANSPARENT},
	}),
	// An accepted connection has what the first packet had.
	rows(kind.multicast, unix.SOL_IP, []option{
		{name: "IP_MULTICAST_IF", number: unix.IP_MULTICAST_IF},
		{name: "IP_MULTICAST_TTL", number: unix.IP_MULTICAST_TTL},
		{name: "IP_MULTICAST_LOOP", number: unix.IP_MULTICAST_LOOP},
		{name: "IP_MULTICAST_ALL", number: unix.IP_MULTICAST_ALL},
	}),
	rows(func(k kind) bool { return k.inet6() && k.multicast() }, unix.SOL_IPV6, []option{
		{name: "IPV6_MULTICAST_IF", number: unix.IPV6_MULTICAST_IF},
		{name: "IPV6_MULTICAST_HOPS", number: unix.IPV6_MULTICAST_HOPS},
		{name: "IPV6_MULTICAST_LOOP", number: unix.IPV6_MULTICAST_LOOP},
		{name: "IPV6_MULTICAST_ALL", number: unix.IPV6_MULTICAST_ALL},
	}),
	rows(kind.tcp, unix.SOL_TCP, []option{
		{name: "TCP_MAXSEG", number: unix.TCP_MAXSEG, most: 32767, unconnected: true}, // MAX_TCP_WINDOW
		{name: "TCP_DEFER_ACCEPT", number: unix.TCP_DEFER_ACCEPT},
		{name: "TCP_FASTOPEN", number: unix.TCP_FASTOPEN, unconnected: true},
		{name: "TCP_FASTOPEN_CONNECT", number: unix.TCP_FASTOPEN_CONNECT, unconnected: true},
		{name: "TCP_FASTOPEN_NO_COOKIE", number: unix.TCP_FASTOPEN_NO_COOKIE, unconnected: true},
		{name: "TCP_SYNCNT", number: unix.TCP_SYNCNT},
		{name: "TCP_LINGER2", number: unix.TCP_LINGER2},
		{name: "TCP_CONGESTION", number: unix.TCP_CONGESTION, size: 16},
		{name: "TCP_USER_TIMEOUT", number: unix.TCP_USER_TIMEOUT},
		{name: "TCP_NOTSENT_LOWAT", number: unix.TCP_NOTSENT_LOWAT},
		{name: "TCP_THIN_LINEAR_TIMEOUTS", number: unix.TCP_THIN_LINEAR_TIMEOUTS},
		{name: "TCP_SAVE_SYN", number: unix.TCP_SAVE_SYN},
		{name: "TCP_INQ", number: unix.TCP_INQ},
		{name: "TCP_TX_DELAY", number: unix.TCP_TX_DELAY},
	}),
	rows(kind.udp, unix.SOL_UDP, []option{
		{name: "UDP_NO_CHECK6_TX", number: unix.UDP_NO_CHECK6_TX},
		{name: "UDP_NO_CHECK6_RX", number: unix.UDP_NO_CHECK6_RX},
		{name: "UDP_SEGMENT", number: unix.UDP_SEGMENT},
		{name: "UDP_GRO", number: unix.UDP_GRO},
	}),
	rows(anySocket, unix.SOL_SOCKET, []option{
		{name: "SO_PRIORITY", number: unix.SO_PRIORITY}, // CRIU carries it, and IP_TOS changes it
		{name: "SO_LOCK_FILTER", number: unix.SO_LOCK_FILTER},
	}),
)

func rows(on func(kind) bool, level int, list []option) []option {
	for i := range list {
		list[i].on, list[i].level = on, level
	}
	return list
}

// kind is what tells which options a socket has.
type kind struct {
	Family   int `json:"family"`
	Type     int `json:"type"`
	Protocol int `json:"protocol"`
}

func anySocket(kind) bool      { return true }
func (k kind) inet() bool      { return k.Family == unix.AF_INET || k.Family == unix.AF_INET6 }
func (k kind) multicast() bool { return k.inet() && !k.tcp() }
func (k kind) inet6() bool     { return k.Family == unix.AF_INET6 }
func (k kind) tcp() bool {
	return k.inet() && k.Protocol == unix.IPPROTO_TCP && k.Type == unix.SOCK_STREAM
}
func (k kind) udp() bool {
	return k.inet() && k.Protocol == unix.IPPROTO_UDP && k.Type == unix.SOCK_DGRAM
}

// kindOf also finds out whether the descriptor is a socket.
func kindOf(fd int) (k kind, err error) {
	for number, to := range map[int]*int{unix.SO_DOMAIN: &k.Family, unix.SO_TYPE: &k.Type, unix.SO_PROTOCOL: &k.Protocol} {
		if *to, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, number); err != nil {
			return k, err
		}
	}
	return k, nil
}

// values are those of options, by their names.
type values map[string][]byte

// read returns what a socket has. What the kernel, or this socket, does not have is left out.
func read(fd int, k kind) values {
	v := values{}
	connected := k.tcp() && isConnected(fd)
	for _, o := range options {
		if !o.on(k) || o.unconnected && connected {
			continue
		}
		value, err := o.get(fd)
		if err != nil || o.most > 0 && binary.NativeEndian.Uint32(value) > o.most {
			continue
		}
		v[o.name] = value
	}
	return v
}

// fresh returns what a new socket has in the calling thread's network; nothing if there can be none.
func fresh(k kind) values {
	fd, err := unix.Socket(k.Family, k.Type|unix.SOCK_CLOEXEC, k.Protocol)
	if err != nil {
		return values{}
	}
	defer unix.Close(fd)
	return read(fd, k)
}

// without leaves out what the other one has, too.
func (v values) without(other values) values {
	left := values{}
	for name, value := range v {
		if had, ok := other[name]; !ok || !bytes.Equal(had, value) {
			left[name] = value
		}
	}
	return left
}

// set gives the values to a socket that has others.
func (v values) set(fd int) error {
	for _, o := range options {
		want, ok := v[o.name]
		if !ok {
			continue
		}
		if has, err := o.get(fd); err == nil && bytes.Equal(has, want) {
			continue
		}
		if err := unix.SetsockoptString(fd, o.level, o.number, string(want)); err != nil {
			return fmt.Errorf("option %s (%q): %w", o.name, bytes.TrimRight(want, "\x00"), err)
		}
	}
	return nil
}

func (o option) get(fd int) ([]byte, error) {
	size := o.size
	if size == 0 {
		size = 4
	}
	return getsockopt(fd, o.level, o.number, make([]byte, size))
}

// getsockopt returns as much of the buffer as the kernel has filled.
func getsockopt(fd, level, number int, buffer []byte) ([]byte, error) {
	size := uint32(len(buffer))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(number),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("getsockopt", errno)
	}
	return buffer[:min(int(size), len(buffer))], nil
}

// isConnected tells whether a TCP socket is neither new nor listens.
func isConnected(fd int) bool {
	const closed, listens = 7, 10 // include/net/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	return err == nil && info.State != closed && info.State != listens
}

// borrow returns a descriptor of a process on this node.
func borrow(pid, number int) (fd int, err error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, number, 0)
}
