package source

import "github.com/migrate-hpc/migrate/agent/node"

// Sources are the jobs of a node that leave it.
type Sources struct{ *node.Node }
