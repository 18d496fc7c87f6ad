package peer

import "github.com/migrate-hpc/migrate/agent/node"

// Peers asks the agents of other nodes, at configured or known addresses.
type Peers struct{ *node.Node }
