package launch

import (
	"sync"

	"github.com/migrate-hpc/migrate/agent/node"
)

// Launcher starts jobs, and makes room for those that come.
type Launcher struct {
	*node.Node

	mu       sync.Mutex
	starting map[uint32]int // jobs that are not known yet, by user

	addresses sync.Mutex // held from the comparison of a job's address with others until it is claimed
}
