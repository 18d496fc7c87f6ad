package preflight

import (
	"slices"
	"strings"
)

// protocols are the sockets that CRIU saves, as sockfs names them
// (criu/sockets.c, can_dump_ipproto in criu/sk-inet.c).
var protocols = []string{
	"TCP", "TCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "PING", "PINGv6", "RAW", "RAWv6",
	"UNIX", "UNIX-STREAM", "NETLINK", "PACKET",
}

// otherProtocols explains those that users meet, by the beginning of the name.
var otherProtocols = []struct{ prefix, what, remedy string }{
	{"MPTCP", "a Multipath TCP socket, as Go programs make them when they listen",
		"start the job with GODEBUG=multipathtcp=0 in its environment"},
	{"SCTP", "an SCTP socket", "let the program use TCP"},
	{"AF_VSOCK", "a vsock socket, which leads to this node's hypervisor", "close it before the move"},
	{"ALG", "a socket of the kernel's crypto interface (AF_ALG)",
		"run the program with another crypto engine (OpenSSL: not afalg)"},
	{"XDP", "an AF_XDP socket", "let the program use ordinary sockets"},
	{"SMC", "an SMC socket", "start the program without smc_run"},
}

func judgeSocket(r *report, t task, d descriptor) {
	if d.Proto == "" || slices.Contains(protocols, d.Proto) {
		return
	}
	for _, p := range otherProtocols {
		if strings.HasPrefix(d.Proto, p.prefix) {
			r.add(SocketKind, p.remedy, "%s has %s (descriptor %d), which cannot be saved", t, p.what, d.Number)
			return
		}
	}
	r.add(SocketKind, "close it before the move, or let the program use TCP or UDP",
		"%s has a socket of protocol %s (descriptor %d), which cannot be saved", t, d.Proto, d.Number)
}

// unixSocket is a Unix socket of the job's network namespace. Peer is the inode
// of the socket that it is connected to, 0 for none.
type unixSocket struct {
	Ino, Peer uint32
	Name      string
}

// judgePeers finds Unix sockets of the job whose other end is in a process
// elsewhere on the node: a directory service, a desktop, a logger.
func (j *jobFacts) judgePeers(r *report) {
	inside := map[uint32]unixSocket{}
	for _, s := range j.Unix {
		inside[s.Ino] = s
	}
	for _, t := range j.Tasks {
		for _, d := range t.Opened {
			s, ok := inside[uint32(d.Ino)]
			if !ok || !strings.HasPrefix(d.Proto, "UNIX") || s.Peer == 0 {
				continue
			}
			if _, ok := inside[s.Peer]; !ok {
				r.add(SocketOutside, "close the connection before the move; `ss -xp` names the process at the other end",
					"%s is connected by a Unix socket (descriptor %d) to a process of the node that is not of its job, and which stays behind", t, d.Number)
			}
		}
	}
}
