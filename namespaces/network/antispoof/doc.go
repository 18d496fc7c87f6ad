// Package antispoof keeps a job from sending as another host. The node's end of its
// veth pair takes in only what the job may send. It drops the rest before a bridge, or
// the node itself, sees it.
//
// A job that is root in its network namespace can take any address and send any
// frame. So a filter outside of it decides, by the address and the MAC of its record:
//
//		job's eth0 ── veth ── node's end ── tc ingress ──┬─ 1: allow ── bridge
//		                                                 └─ 2: drop
//
//	  - Frames carry the job's MAC and no VLAN tag.
//	  - ARP tells of the job's address only; so do neighbour solicitations and
//	    advertisements, and those of its link-local address (EUI-64 of its MAC).
//	  - IPv4 and IPv6 come from those addresses, or from :: where RFC 4862 and
//	    RFC 3590 say so.
//	  - Nothing that a router, a DHCP server or a multicast querier says.
//	  - No other protocol: bridges' own (STP), LLDP, EAPOL, PPPoE and the like.
//
// The two rules are classic BPF programs (net/sched/cls_bpf.c), which need no other
// module than sch_ingress and cls_bpf. They belong to the device: they outlive agent
// and shim, and go when it goes. Distributions load their firewall with `nft flush
// ruleset`, which does not touch them. The rule that drops comes first and stays, so
// that there is no moment at which everything passes.
package antispoof
