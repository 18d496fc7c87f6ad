package handoff

import (
	"fmt"
	"maps"
	"slices"
)

// Grant is a node's durable word that another one, or it itself, may bring a job back from a
// checkpoint under an epoch. It does not say that this has happened: the grantee is asked.
type Grant struct {
	Epoch int64  `json:"epoch"`
	Node  string `json:"node"`
	Addr  string `json:"addr,omitempty"` // host:port of the grantee's agent
}

// Debt lists the nodes that must be told of a restore under an epoch: those that were declared dead,
// and those to which their copy has gone.
type Debt struct {
	Epoch int64             `json:"epoch"`
	Nodes map[string]string `json:"nodes"` // to the address, host:port, that is known
}

// Grant lets g.Node bring the job back, if the highest epoch here is still the one that this node
// has told it, seen: of several that ask at a time one gets it, and the others ErrStaleEpoch. Saying
// it again is no error, since the answer may have been lost. The caller makes sure that the job does
// not live here.
func (f *Fence) Grant(job string, seen int64, g Grant) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.damage != nil {
		return f.damage
	}
	now := f.file.Epochs[job]
	if given := f.file.Grants[job]; given.Node == g.Node && given.Epoch == g.Epoch && now == g.Epoch {
		return nil
	}
	if !grants(now, seen, g.Epoch) {
		return fmt.Errorf("job %.80q, epoch %d, seen %d, and it should be %d: %w", job, g.Epoch, now, seen, ErrStaleEpoch)
	}
	return f.change(func(next *fenceFile) { next.Epochs[job], next.Grants[job] = g.Epoch, g })
}

// grants is the rule: the highest epoch here, now, is still the one that the asking node was told,
// seen, and the new one is above it.
func grants(now, seen, epoch int64) bool { return now == seen && epoch > now }

// Hold notes that this node restores the job itself, under the highest epoch that it has admitted. It
// replaces an earlier grant.
func (f *Fence) Hold(job string, g Grant) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.file.Epochs[job]; f.damage == nil && now != g.Epoch {
		return fmt.Errorf("job %.80q, epoch %d, seen %d: %w", job, g.Epoch, now, ErrStaleEpoch)
	}
	return f.change(func(next *fenceFile) { next.Grants[job] = g })
}

// Learn notes that a job was brought back elsewhere, unless a later epoch of it is known.
func (f *Fence) Learn(job string, g Grant) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g.Epoch <= f.file.Epochs[job] {
		return nil
	}
	return f.change(func(next *fenceFile) { next.Epochs[job], next.Grants[job] = g.Epoch, g })
}

// Granted returns the newest grant of a job.
func (f *Fence) Granted(job string) (g Grant, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, ok = f.file.Grants[job]
	return g, ok
}

// Owe notes which nodes must be told once the job runs under d.Epoch.
func (f *Fence) Owe(job string, d Debt) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.change(func(next *fenceFile) { next.Debts[job] = append(others(next.Debts[job], d.Epoch), d) })
}

// Paid notes that a node was told of the restore. instead are nodes to which its copy went, and which
// must be told next.
func (f *Fence) Paid(job string, epoch int64, told string, instead ...Place) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	nodes := map[string]string{}
	for _, d := range f.file.Debts[job] {
		if d.Epoch == epoch {
			maps.Copy(nodes, d.Nodes)
		}
	}
	delete(nodes, told)
	for _, p := range instead {
		nodes[p.Node] = p.Addr
	}
	return f.change(func(next *fenceFile) {
		next.Debts[job] = others(next.Debts[job], epoch)
		if len(nodes) > 0 {
			next.Debts[job] = append(next.Debts[job], Debt{epoch, nodes})
		}
	})
}

// Forgive drops the debt of an epoch under which the job never ran.
func (f *Fence) Forgive(job string, epoch int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(others(f.file.Debts[job], epoch)) == len(f.file.Debts[job]) {
		return nil
	}
	return f.change(func(next *fenceFile) { next.Debts[job] = others(next.Debts[job], epoch) })
}

// others are the debts of other epochs, in a new slice.
func others(debts []Debt, epoch int64) []Debt {
	return slices.DeleteFunc(slices.Clone(debts), func(d Debt) bool { return d.Epoch == epoch })
}

// Debts returns the debts, by job.
func (f *Fence) Debts() map[string][]Debt {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.file.Debts)
}

// Booted says in which boot of the node its agent starts, and with which peers. A node that went down
// may have been declared dead meanwhile, rightly: what it knows of any job counts for nothing until
// each of its peers has told it (Heard).
func (f *Fence) Booted(boot string, peers []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	unheard := slices.DeleteFunc(slices.Clone(f.file.Unheard), func(node string) bool { return !slices.Contains(peers, node) })
	if f.file.Boot != "" && f.file.Boot != boot {
		unheard = slices.Sorted(slices.Values(peers))
	}
	if f.file.Boot == boot && len(unheard) == len(f.file.Unheard) {
		return nil
	}
	return f.change(func(next *fenceFile) { next.Boot, next.Unheard = boot, unheard })
}

// Heard notes that a peer has told this node what it has brought back.
func (f *Fence) Heard(node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.file.Unheard, node) {
		return nil
	}
	return f.change(func(next *fenceFile) {
		next.Unheard = slices.DeleteFunc(slices.Clone(next.Unheard), func(n string) bool { return n == node })
	})
}

// Unheard are the peers that have not told yet.
func (f *Fence) Unheard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.file.Unheard)
}

// MarkLost notes that this node has lost where a job went and which node may restore it; "" is all
// jobs.
func (f *Fence) MarkLost(job string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hasLost(job) {
		return f.damage
	}
	return f.change(func(next *fenceFile) { next.Lost = append(slices.Clone(next.Lost), job) })
}

// HasLost tells whether a job may be on any peer, for all that this node knows.
func (f *Fence) HasLost(job string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hasLost(job)
}

func (f *Fence) hasLost(job string) bool {
	return slices.Contains(f.file.Lost, job) || slices.Contains(f.file.Lost, "")
}
