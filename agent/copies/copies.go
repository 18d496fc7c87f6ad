package copies

import (
	"sync"

	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
)

// Copies keeps one copy of a job alive, on whatever node it is restored.
type Copies struct {
	*node.Node
	Peers   *peer.Peers
	Sources *source.Sources

	GrantLock sync.Mutex // held while a grant is checked and given
}
