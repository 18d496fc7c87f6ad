package copies

import (
	"sync"

	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
)

// Copies keeps one copy of a job alive, whoever restores it.
type Copies struct {
	*node.Node
	Peers   *peer.Peers
	Sources *source.Sources

	GrantLock sync.Mutex // what this node knows of a job stays so while it is held
}
