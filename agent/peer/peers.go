package peer

import "github.com/migrate-hpc/migrate/agent/node"

// Peers asks the agents of other nodes.
type Peers struct{ *node.Node }
