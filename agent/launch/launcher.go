package launch

import (
	"sync"

	"github.com/migrate-hpc/migrate/agent/node"
)

// Launcher starts jobs, and reserves what jobs that come here need.
type Launcher struct {
	*node.Node

	mu       sync.Mutex
	starting map[uint32]int // jobs without a record yet, by user

	addresses sync.Mutex // held from the comparison of a job's address with others until its record is written
}
