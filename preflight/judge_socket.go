package preflight

import (
	"fmt"
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
		"start the job with `migrate run --env GODEBUG=multipathtcp=0 …`"},
	{"SCTP", "an SCTP socket", "run the program without SCTP, over TCP"},
	{"AF_VSOCK", "a vsock socket, which leads to this node's hypervisor", "close it before the move; `ss --vsock -p` shows it"},
	{"ALG", "a socket of the kernel's crypto interface (AF_ALG)",
		"run the program without AF_ALG (OpenSSL: with another engine than afalg)"},
	{"XDP", "an AF_XDP socket", "run the program without AF_XDP"},
	{"SMC", "an SMC socket", "start the program without `smc_run`"},
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
	r.add(SocketKind, fmt.Sprintf(closeIt+", or let the program use TCP or UDP", t.Host),
		"%s has a socket of protocol %s (descriptor %d), which cannot be saved", t, d.Proto, d.Number)
}

func judgeLinks(r *report, links []outsideLink) {
	for _, l := range links {
		r.add(SocketOutside, "close the connection before the move; `ss -xpH | grep "+itoa(int(l.Peer))+"` on this node names the process at the other end",
			"%s is connected by a Unix socket (descriptor %d) to a process of the node that is not of its job, and which stays behind", l.Who, l.Number)
	}
}

func (j *jobFacts) judgePipes(r *report) {
	for _, p := range j.FIFOs {
		r.add(FIFOOutside, "end that process (`kill "+itoa(p.Other.Pid)+"`), or have the job close the FIFO, before the move; processes that belong together can talk over TCP, or be one job",
			"%s has the FIFO %s open, and so has process %d (%s) of this node, which stays behind: on another node it would be another FIFO", p.Who, p.Held, p.Other.Pid, p.Other.Comm)
	}
}
