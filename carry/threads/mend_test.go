package threads

import (
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

// mended has a job set what a record says, from within.
func mended(t *testing.T, init int, r record) error {
	t.Helper()
	images := t.TempDir()
	if err := write(images, r); err != nil {
		t.Fatal(err)
	}
	half := NewRestorer(carry.Env{Images: images})
	for _, stage := range []func() error{half.Prepare, func() error { return half.NamespacesMade(init) }, half.Parked} {
		if err := stage(); err != nil {
			t.Fatal(err)
		}
	}
	return carry.MendersOf([]carry.Restorer{half}).Mend(testenv.Bounded(t), nil, init, func() error { return nil })
}

// writable finds memory of a process that is its own.
func writable(t *testing.T, pid int) procfs.Mapping {
	t.Helper()
	for m, err := range procfs.Maps(fmt.Sprintf("/proc/%d/maps", pid)) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Writable() && m.Name == "[heap]" {
			return m
		}
	}
	t.Fatal("it has no heap")
	return procfs.Mapping{}
}

// fromWithin is a record of all that only the process itself can set.
func fromWithin(t *testing.T, pid int) record {
	t.Helper()
	interleave := policy{Mode: 3, Nodes: cpus(t, "0")}
	if _, err := os.Stat("/proc/self/numa_maps"); err != nil { // CONFIG_NUMA
		interleave = policy{}
	}
	heap := writable(t, pid)
	return record{
		Format:  format,
		Attrs:   []attrs{{Personality: 0x0040000, MCE: mceLate, Policy: interleave}},
		Threads: [][3]int{{1, 1, 0}},
		Processes: []process{{PID: 1, MergeAny: true, Areas: []area{
			{Start: heap.Start, End: heap.Start + pageSize, LockOnFault: true},
			{Start: heap.Start + pageSize, End: heap.End, Sealed: true},
		}}},
	}
}

func TestWhatOnlyAProcessItselfCanSetIsSetFromWithin(t *testing.T) {
	job, copied := aJob(t), aJob(t)
	want := fromWithin(t, job)
	if err := mended(t, job, want); err != nil {
		t.Fatal(err)
	}
	seen, err := look(job)
	if err != nil || !reflect.DeepEqual(seen, want) {
		t.Fatalf("seen: %+v, %v\nset: %+v", seen, err, want)
	}
	before := mappings(t, copied)
	again := fromWithin(t, copied) // elsewhere in memory
	if err := mended(t, copied, again); err != nil {
		t.Fatal(err)
	}
	if seen, err := look(copied); err != nil || !reflect.DeepEqual(seen, again) {
		t.Errorf("the copy has %+v, %v\nwant %+v", seen, err, again)
	}
	if after := mappings(t, copied); after != before+1 { // the heap is in two parts now
		t.Errorf("it had %d mappings, and has %d", before, after)
	}
}

func TestMemoryWithAPolicyOfItsOwnIsToldFromTheRest(t *testing.T) {
	if _, err := os.Stat("/proc/self/numa_maps"); err != nil {
		t.Skipf("the kernel has no memory policies: %v", err)
	}
	job := aJob(t)
	heap := writable(t, job)
	bind, prefer := policy{Mode: 2 | 1<<15, Nodes: cpus(t, "0")}, policy{Mode: 1, Nodes: cpus(t, "0")}
	want := record{Format: format, Attrs: []attrs{{Policy: prefer}}, Threads: [][3]int{{1, 1, 0}},
		Processes: []process{{PID: 1, Areas: []area{{Start: heap.Start, End: heap.End, Policy: bind}}}}}
	if err := mended(t, job, want); err != nil {
		t.Fatal(err)
	}
	if seen, err := look(job); err != nil || !reflect.DeepEqual(seen, want) {
		t.Errorf("seen: %+v, %v\nset: %+v", seen, err, want)
	}
	for mode, nodes := range map[affinity.Mode]string{affinity.Map: "0", affinity.Drop: ""} {
		copied := aJob(t)
		far := want
		far.Affinity, far.Processes = mode, nil
		far.Attrs = []attrs{{Policy: policy{Mode: 2, Nodes: cpus(t, "1023")}}}
		if err := mended(t, copied, far); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		if seen, err := look(copied); err != nil || seen.nodes() != cpus(t, nodes) {
			t.Errorf("%s: nodes %v of %+v, %v", mode, seen.nodes(), seen, err)
		}
	}
}

// The job is its only copy then. It runs on, and the log has the error.
func TestWhatCannotBeSetFromWithinIsTold(t *testing.T) {
	copied := aJob(t)
	none := record{Format: format, Processes: []process{{PID: 1, MergeAny: true, Areas: []area{{Start: pageSize, End: 2 * pageSize, Sealed: true}}}}}
	if err := mended(t, copied, none); err == nil {
		t.Error("memory that is not there is sealed")
	}
	if seen, err := look(copied); err != nil || len(seen.Processes) != 1 || !seen.Processes[0].MergeAny {
		t.Errorf("an error keeps the rest from being set: %+v, %v", seen, err)
	}
}

func mappings(t *testing.T, pid int) int {
	t.Helper()
	n := 0
	for _, err := range procfs.Maps(fmt.Sprintf("/proc/%d/maps", pid)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestAMemoryPolicyIsReadAsTheKernelWritesIt(t *testing.T) {
	for text, want := range map[string]policy{
		"default":                         {},
		"default heap anon=1":             {},
		"bind:0-1 anon=3 N0=3":            {Mode: 2, Nodes: cpus(t, "0-1")},
		"prefer:1":                        {Mode: 1, Nodes: cpus(t, "1")},
		"prefer (many):0,2 file=/a":       {Mode: 5, Nodes: cpus(t, "0,2")},
		"local file=/bind:3":              {Mode: 4},
		"interleave=static:3":             {Mode: 3 | 1<<15, Nodes: cpus(t, "3")},
		"interleave=relative|balancing:3": {Mode: 3 | 1<<14 | 1<<13, Nodes: cpus(t, "3")},
		"weighted interleave:0-3":         {Mode: 6, Nodes: cpus(t, "0-3")},
	} {
		if p, err := cutPolicy(text); err != nil || p != want || p.check() != nil {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "first-touch:0", "bind=odd:0", "bindx:1", "bind:a"} {
		if p, err := cutPolicy(text); err == nil {
			t.Errorf("%q: %+v", text, p)
		}
	}
}
