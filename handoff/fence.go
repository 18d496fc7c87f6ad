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

	"github.com/migrate-hpc/migrate/job/durable"
)

// ErrStaleEpoch says that a node has seen this epoch of the job, or a later one.
var ErrStaleEpoch = errors.New("this attempt to move the job is over: a node has seen its epoch or a later one")

const (
	fenceFormat = 1
	maxFence    = 64 << 20 // bytes of the file
)

// Fence remembers the highest epoch of each job that this node has admitted, so that an attempt
// admits no second one: a delayed or repeated begin is refused.
//
// Its file is {"format":1,"crc32c":"9ae0daaf","epochs":{"JOB":EPOCH}}, written whole each time.
type Fence struct {
	path string

	mu     sync.Mutex
	epochs map[string]int64
	damage error // nothing is admitted
}

type fenceFile struct {
	Format int              `json:"format"`
	CRC    string           `json:"crc32c,omitempty"`
	Epochs map[string]int64 `json:"epochs"`
}

// ErrFenceDamaged says that nobody knows which epochs this node has seen.
var ErrFenceDamaged = errors.New("remove the file when no move is under way in the cluster, and restart the agent; until then no job comes to this node")

// OpenFence reads the file at path; a missing one is empty. One that cannot be read is an error, and
// the fence that is returned with it admits nothing.
func OpenFence(path string) (*Fence, error) {
	f := &Fence{path: path}
	data, err := readFence(path)
	if err == nil {
		f.epochs, err = decodeFence(data)
	}
	if errors.Is(err, fs.ErrNotExist) {
		f.epochs, err = map[string]int64{}, nil
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

func decodeFence(data []byte) (map[string]int64, error) {
	var content fenceFile
	if len(data) > maxFence {
		return nil, fmt.Errorf("above %d bytes", maxFence)
	}
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, err
	}
	if content.Format != fenceFormat {
		return nil, fmt.Errorf("format %d, and this migrate reads %d", content.Format, fenceFormat)
	}
	if content.Epochs == nil {
		return nil, errors.New("it holds no epochs")
	}
	if err := durable.Verify(data); err != nil {
		return nil, err
	}
	return content.Epochs, nil
}

// Admit raises the epoch of a job, durably. It fails with ErrStaleEpoch unless epoch is above all
// that were admitted before.
func (f *Fence) Admit(job string, epoch int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.damage != nil {
		return f.damage
	}
	if seen := f.epochs[job]; epoch <= seen {
		return fmt.Errorf("job %.80q, epoch %d, seen %d: %w", job, epoch, seen, ErrStaleEpoch)
	}
	return f.change(func(m map[string]int64) { m[job] = epoch })
}

// Highest returns the highest epoch of a job that was admitted, 0 if none was.
func (f *Fence) Highest(job string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epochs[job]
}

// Forget removes a job that is over.
func (f *Fence) Forget(job string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.epochs[job]; !ok {
		return f.damage
	}
	return f.change(func(m map[string]int64) { delete(m, job) })
}

func (f *Fence) change(edit func(map[string]int64)) error {
	next := maps.Clone(f.epochs)
	edit(next)
	data, err := json.Marshal(fenceFile{Format: fenceFormat, CRC: durable.Unsealed, Epochs: next})
	if err != nil {
		return fmt.Errorf("write fence: %w", err)
	}
	data = append(data, '\n')
	durable.Seal(data)
	if err := durable.WriteFile(f.path, data, journalMode); err != nil {
		return err
	}
	f.epochs = next
	return nil
}
