package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"sync"

	"github.com/migrate-hpc/migrate/durable"
)

// ErrStaleEpoch says that a node has seen this epoch of the job, or a later one.
var ErrStaleEpoch = errors.New("this attempt to move the job is over: a node has seen its epoch or a later one")

const (
	fenceFormat = 1
	maxFence    = 64 << 20 // bytes of the file
)

// Fence remembers the highest epoch of each job that this node has admitted, so that an attempt
// admits no second one: a delayed or repeated begin is refused. It also remembers which node may
// restore a job (Grant), which nodes must be told of a restore (Debt), and which peers must answer
// first after a reboot (Booted). Removing a job's record undoes no grant.
//
// Its file is {"format":1,"crc32c":"9ae0daaf","epochs":{"JOB":EPOCH},…}, written whole each time; docs/formats.md has it all.
type Fence struct {
	path string

	mu     sync.Mutex
	file   fenceFile
	damage error // then nothing is admitted or granted
}

type fenceFile struct {
	Format int               `json:"format"`
	CRC    string            `json:"crc32c,omitempty"`
	Epochs map[string]int64  `json:"epochs"`
	Grants map[string]Grant  `json:"grants,omitempty"`
	Debts  map[string][]Debt `json:"debts,omitempty"`
	// Boot is the boot of the node in which the file was last opened.
	Boot string `json:"boot,omitempty"`
	// Unheard are peers that may have brought back jobs while this node was down.
	Unheard []string `json:"unheard,omitempty"`
	// Lost are jobs of which this node does not know any more where they went, "" for all.
	Lost []string `json:"lost,omitempty"`
}

// ErrFenceDamaged says that the epochs which this node has seen are lost.
var ErrFenceDamaged = errors.New("remove the file when no move or restore is under way in the cluster, and restart the agent, which asks all its peers from then on; until then no job comes to this node")

// OpenFence reads the file at path; a missing one is empty. One that cannot be read is an error, and
// the fence that is returned with it admits and grants nothing.
func OpenFence(path string) (*Fence, error) {
	f := &Fence{path: path}
	data, err := readFence(path)
	if err == nil {
		f.file, err = decodeFence(data)
	}
	if errors.Is(err, fs.ErrNotExist) {
		f.file, err = fenceFile{Format: fenceFormat, Epochs: map[string]int64{}}, nil
	}
	if err != nil {
		f.damage = fmt.Errorf("fence %s: %w: %w", path, err, ErrFenceDamaged)
	}
	return f, f.damage
}

func readFence(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxFence+1))
}

func decodeFence(data []byte) (content fenceFile, err error) {
	if len(data) > maxFence {
		return content, fmt.Errorf("above %d bytes", maxFence)
	}
	if err := json.Unmarshal(data, &content); err != nil {
		return content, err
	}
	if content.Format != fenceFormat {
		return content, fmt.Errorf("format %d, and this migrate reads %d", content.Format, fenceFormat)
	}
	if content.Epochs == nil {
		return content, errors.New("it holds no epochs")
	}
	return content, durable.Verify(data)
}

// Damage is the error of reading the fence, nil if what it admitted and granted is known.
func (f *Fence) Damage() error { return f.damage }

// Admit raises the epoch of a job, durably. It fails with ErrStaleEpoch unless epoch is above all
// that were admitted before.
func (f *Fence) Admit(job string, epoch int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.damage != nil {
		return f.damage
	}
	if seen := f.file.Epochs[job]; epoch <= seen {
		return fmt.Errorf("job %.80q, epoch %d, seen %d: %w", job, epoch, seen, ErrStaleEpoch)
	}
	return f.change(func(next *fenceFile) { next.Epochs[job] = epoch })
}

// Highest returns the highest epoch of a job that was admitted, 0 if none was.
func (f *Fence) Highest(job string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Epochs[job]
}

// Forget removes a job that has ended and that no checkpoint can restore.
func (f *Fence) Forget(job string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.file.Epochs[job]; !ok {
		return f.damage
	}
	return f.change(func(next *fenceFile) {
		delete(next.Epochs, job)
		delete(next.Grants, job)
		delete(next.Debts, job)
	})
}

// change edits a copy of the file's maps, and writes it to the disk before it counts.
func (f *Fence) change(edit func(*fenceFile)) error {
	if f.damage != nil {
		return f.damage
	}
	next := f.file
	next.Format, next.CRC = fenceFormat, durable.Unsealed
	next.Epochs, next.Grants, next.Debts = maps.Clone(f.file.Epochs), maps.Clone(f.file.Grants), maps.Clone(f.file.Debts)
	if next.Grants == nil {
		next.Grants = map[string]Grant{}
	}
	if next.Debts == nil {
		next.Debts = map[string][]Debt{}
	}
	edit(&next)
	maps.DeleteFunc(next.Debts, func(_ string, d []Debt) bool { return len(d) == 0 })
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write fence: %w", err)
	}
	data = append(data, '\n')
	durable.Seal(data)
	if err := durable.WriteFile(f.path, data, journalMode); err != nil {
		return err
	}
	f.file = next
	return nil
}
