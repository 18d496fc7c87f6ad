package source

import "github.com/migrate-hpc/migrate/agent/node"

// Sources opens jobs that leave their node.
type Sources struct{ *node.Node }
