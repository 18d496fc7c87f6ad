package threads

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/criu/image"
)

const (
	// fileName is the file among CRIU's images that holds what is unusual, in JSON. CRIU does
	// not look at it.
	fileName = "migrate-threads.json"

	// maxFile bounds it, in bytes: some twenty for each of the threads that a kernel can have,
	// and a set of processors for each of some.
	maxFile = 128 << 20

	format = 1

	maxPID        = 1 << 22 // the kernel's own limit
	maxIOPriority = 1<<16 - 1
)

// attrs are what a thread has that is unusual. Zero is the usual value.
type attrs struct {
	CPUs       affinity.Set `json:"cpus,omitzero"`
	IOPriority uint32       `json:"io_priority,omitempty"` // as ioprio_get(2) has it
	TimerSlack uint64       `json:"timer_slack,omitempty"` // nanoseconds

	// What only the thread itself can set.
	Personality uint32 `json:"personality,omitempty"` // see personality(2)
	MCE         mce    `json:"mce,omitempty"`
	Policy      policy `json:"policy,omitzero"`
}

// mce says when a thread hears of memory that has failed, see PR_MCE_KILL in prctl(2). Zero is the
// usual time: what the node says.
type mce uint32

const (
	mceLate  mce = 1
	mceEarly mce = 2
)

func (a attrs) fromWithin() bool { return a.Personality != 0 || a.MCE != 0 || a.Policy != policy{} }

// process is what a process has that is unusual.
type process struct {
	PID            int     `json:"pid"` // in the job
	CoredumpFilter *uint32 `json:"coredump_filter,omitempty"`

	// What only the process itself can set.
	MergeAny bool   `json:"merge_any,omitempty"` // see PR_SET_MEMORY_MERGE
	Areas    []area `json:"areas,omitempty"`
}

func (p process) fromWithin() bool { return p.MergeAny || len(p.Areas) > 0 }

// record is what a job has that is unusual.
type record struct {
	Format   int           `json:"format"`
	Affinity affinity.Mode `json:"affinity,omitempty"`
	Attrs    []attrs       `json:"attrs,omitempty"`
	// Threads are pid and tid in the job, and the place in Attrs.
	Threads   [][3]int  `json:"threads,omitempty"`
	Processes []process `json:"processes,omitempty"`
}

// nodes are the nodes of memory that policies name, together.
func (r record) nodes() (all affinity.Set) {
	for _, a := range r.Attrs {
		all.Add(a.Policy.Nodes)
	}
	for _, p := range r.Processes {
		for _, a := range p.Areas {
			all.Add(a.Policy.Nodes)
		}
	}
	return all
}

// bound are the processors that threads are bound to, together.
func (r record) bound() (all affinity.Set) {
	for _, a := range r.Attrs {
		all.Add(a.CPUs)
	}
	return all
}

func (r record) empty() bool { return len(r.Threads) == 0 && len(r.Processes) == 0 }

// check refuses what no source writes.
func (r record) check() error {
	if r.Format < 1 || r.Format > format {
		return fmt.Errorf("format %d, and this migrate reads 1 to %d", r.Format, format)
	}
	if _, err := affinity.ParseMode(string(r.Affinity)); err != nil {
		return err
	}
	for _, a := range r.Attrs {
		if a.IOPriority > maxIOPriority {
			return fmt.Errorf("I/O priority %#x", a.IOPriority)
		}
		if a.MCE > mceEarly {
			return fmt.Errorf("policy %d for failed memory", a.MCE)
		}
		if err := a.Policy.check(); err != nil {
			return err
		}
	}
	seen := map[[2]int]bool{}
	for _, t := range r.Threads {
		id := [2]int{t[0], t[1]}
		if seen[id] || !isPID(t[0]) || !isPID(t[1]) || t[2] < 0 || t[2] >= len(r.Attrs) {
			return fmt.Errorf("the entry %v of a thread cannot be", t)
		}
		seen[id] = true
	}
	processes := map[int]bool{}
	for _, p := range r.Processes {
		if processes[p.PID] || !isPID(p.PID) {
			return fmt.Errorf("the entry of process %d cannot be", p.PID)
		}
		processes[p.PID] = true
		for _, a := range p.Areas {
			if err := a.check(); err != nil {
				return fmt.Errorf("process %d: %w", p.PID, err)
			}
		}
	}
	return nil
}

func isPID(n int) bool { return n > 0 && n <= maxPID }

// write keeps the record among the job's images.
func write(images string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("attributes of threads: %w: %d bytes, above %d", image.ErrSize, len(data), maxFile)
	}
	//house:allow os.WriteFile: images are synced as a whole when they are sealed
	return os.WriteFile(filepath.Join(images, fileName), data, 0o600)
}

// read returns it, an empty one if the job has nothing unusual.
func read(images string) (record, error) {
	data, err := image.ReadBounded(filepath.Join(images, fileName), maxFile)
	if errors.Is(err, image.ErrMissing) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	return decode(data)
}

// decode reads what write has written. Fields that it does not know are ignored.
func decode(data []byte) (r record, err error) {
	if err = json.NewDecoder(bytes.NewReader(data)).Decode(&r); err == nil {
		err = r.check()
	}
	if err != nil {
		return record{}, fmt.Errorf("attributes of threads: %w", err)
	}
	return r, nil
}
