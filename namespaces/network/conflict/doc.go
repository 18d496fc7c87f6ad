// Package conflict asks the network whether an address is free, before a job begins
// to use it: an ARP probe (RFC 5227) for an IPv4 address, a neighbour solicitation as
// for duplicate address detection (RFC 4862) for an IPv6 one.
//
// The question leaves by a packet socket on the bridge, from the bridge's own MAC, so
// that no switch learns a wrong place for the job's. It is heard by whoever is on the
// bridge: other jobs of the node, containers, and through the bridge's uplink the other
// nodes. Any answer is a conflict. So is somebody else who asks the same at the same
// time, by which two nodes do not give one address away at once.
//
// RFC 5227 takes 5 to 9 seconds over it, which is for hosts that come up while their
// switch still learns its topology. A bridge that carries traffic answers within
// milliseconds: three probes in 200 ms stand the loss of two.
package conflict
