package peer

import "github.com/migrate-hpc/migrate/affinity"

// FeatureThreads says that a target gives threads and processes what package carry/threads carries,
// and names its processors when it accepts.
const FeatureThreads = "threads"

// Acceptance accepts an offer. Targets without [FeatureThreads] send none.
type Acceptance struct {
	CPUs affinity.Set `json:"cpus,omitzero"` // that the node gives to its jobs
}
