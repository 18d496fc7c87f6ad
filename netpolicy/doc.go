// Package netpolicy says whose jobs may use which bridges and addresses of a node.
//
// An address on a bridge is worth something: its holder gets what is meant for it. So a
// plain user's job gets a bridge only by a rule of the node's operator. Each is a flag of
// the agent:
//
//	--network br0=10.0.0.0/24,fd00:3::/64@hpc
//	          │   │                       └─ group; without it, all users
//	          │   └─ subnets, or FIRST-LAST
//	          └─ bridge
//
// Rules add up. Root needs none. Each node that a job comes to asks its own rules.
package netpolicy
