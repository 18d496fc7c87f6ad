// Package netpolicy says whose jobs may use which bridges and addresses of a node.
//
// An address on a bridge is worth something: whoever has it gets what is meant for
// it. So a plain user's job gets a bridge only where the operator of the node has
// said so, one rule a flag of the agent:
//
//	--network br0=10.0.0.0/24,fd00:3::/64@hpc
//	          │   │                       └─ group; without it, everybody
//	          │   └─ subnets, or FIRST-LAST
//	          └─ bridge
//
// Rules add up. Root needs none. Each node that a job comes to asks its own rules.
package netpolicy
