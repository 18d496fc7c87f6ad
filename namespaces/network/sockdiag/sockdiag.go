// Package sockdiag lists the sockets of a network by sock_diag(7). It tells more of a listener's queue than
// libraries do, and lists Unix sockets of all types.
package sockdiag

import (
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// States of sockets, as a set.
const (
	tcpListen = 10 // TCP_LISTEN, include/net/tcp_states.h

	Listening = 1 << tcpListen
	AnyState  = 1<<32 - 1
)

// InetSocket is a part of struct inet_diag_msg, include/uapi/linux/inet_diag.h.
type InetSocket struct {
	Port   uint16
	Unread uint32 // connections at a listener, else bytes
}

// Inet lists those of the calling thread's network that are in one of the states.
func Inet(family, protocol uint8, states uint32) (list []InetSocket, err error) {
	const requestSize, messageSize = 56, 72
	ask := make([]byte, requestSize) // struct inet_diag_req_v2
	ask[0], ask[1] = family, protocol
	binary.NativeEndian.PutUint32(ask[4:], states)
	answers, err := diagnose(ask)
	if missing(err) {
		return nil, nil
	}
	for _, m := range answers {
		if len(m) >= messageSize {
			list = append(list, InetSocket{binary.BigEndian.Uint16(m[4:]), binary.NativeEndian.Uint32(m[56:])})
		}
	}
	return list, err
}

// UnixSocket is what is told of one.
type UnixSocket struct {
	Inode   uint32
	Peer    uint32   // inode of the other end, 0 for none
	Sent    uint32   // bytes that nobody has read, of one that is connected
	Clients []uint32 // inodes of the sockets that wait at a listener, 0 of a closed one
}

// Unix lists those of the calling thread's network.
func Unix() (list []UnixSocket, err error) {
	// struct unix_diag_req and unix_diag_msg, include/uapi/linux/unix_diag.h.
	const requestSize, messageSize, showPeer, showClients, showQueues, peerAttr, clientsAttr, queuesAttr = 24, 16, 4, 8, 16, 2, 3, 4
	ask := make([]byte, requestSize)
	ask[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(ask[4:], AnyState)
	binary.NativeEndian.PutUint32(ask[12:], showPeer|showClients|showQueues)
	answers, err := diagnose(ask)
	if missing(err) {
		return nil, nil
	}
	for _, m := range answers {
		if len(m) < messageSize {
			continue
		}
		s := UnixSocket{Inode: binary.NativeEndian.Uint32(m[4:])}
		attrs, err := nl.ParseRouteAttr(m[messageSize:])
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			switch {
			case a.Attr.Type == clientsAttr:
				for v := a.Value; len(v) >= 4; v = v[4:] {
					s.Clients = append(s.Clients, binary.NativeEndian.Uint32(v))
				}
			case a.Attr.Type == peerAttr && len(a.Value) >= 4:
				s.Peer = binary.NativeEndian.Uint32(a.Value)
			case a.Attr.Type == queuesAttr && len(a.Value) >= 8 && m[2] != tcpListen:
				s.Sent = binary.NativeEndian.Uint32(a.Value[4:])
			}
		}
		list = append(list, s)
	}
	return list, err
}

// raw is a request as the kernel has it.
type raw []byte

func (r raw) Len() int          { return len(r) }
func (r raw) Serialize() []byte { return r }

// missing says that the kernel has no such sockets, or lacks the module that lists them, without
// which CRIU saves none.
func missing(err error) bool { return errors.Is(err, unix.ENOENT) }

func diagnose(ask []byte) ([][]byte, error) {
	req := nl.NewNetlinkRequest(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddData(raw(ask))
	return req.Execute(unix.NETLINK_SOCK_DIAG, 0)
}
