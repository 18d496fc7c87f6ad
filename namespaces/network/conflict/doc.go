// Package conflict asks the network whether an address is free, before a job begins
// to use it. For an IPv4 address it sends an ARP probe (RFC 5227). For an IPv6 address it
// sends the neighbour solicitation of duplicate address detection (RFC 4862).
//
// The question leaves by a packet socket on the bridge, from the bridge's own MAC. So
// no switch learns a wrong place for the job's MAC. All hosts on the bridge receive it:
// other jobs of the node, containers, and through the uplink the other nodes. Any
// answer is a conflict. So is another question for the same address at the same time.
// Two nodes must not give one address away at once.
//
// RFC 5227 takes 5 to 9 seconds, for hosts that come up while their switch still
// learns its topology. A bridge that carries traffic answers within milliseconds:
// three probes in 200 ms stand the loss of two.
package conflict
