package threads

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/criu/image"
)

const (
	golden       = "testdata/format-1"
	goldenWithin = "testdata/format-1-within"
)

func cpus(t *testing.T, text string) affinity.Set {
	t.Helper()
	c, err := affinity.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAttributesAreWrittenAsTheyAlwaysWere(t *testing.T) {
	filter := uint32(7)
	interleave := policy{Mode: 3, Nodes: cpus(t, "0-1")}
	for dir, want := range map[string]record{
		golden: {
			Format: 1, Affinity: affinity.Keep,
			Attrs:     []attrs{{CPUs: cpus(t, "2-3,64")}, {IOPriority: 2<<13 | 4, TimerSlack: 1000}},
			Threads:   [][3]int{{1, 1, 0}, {1, 7, 1}},
			Processes: []process{{PID: 1, CoredumpFilter: &filter}},
		},
		goldenWithin: {
			Format:    1,
			Attrs:     []attrs{{Personality: 0x40000, MCE: mceEarly, Policy: interleave}},
			Threads:   [][3]int{{1, 1, 0}},
			Processes: []process{{PID: 1, MergeAny: true, Areas: []area{{Start: 1 << 20, End: 1<<20 + pageSize, Policy: interleave, Sealed: true, LockOnFault: true}}}},
		},
	} {
		images := t.TempDir()
		if err := write(images, want); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(images, fileName))
		if err != nil {
			t.Fatal(err)
		}
		old, err := os.ReadFile(filepath.Join(dir, fileName))
		if err != nil || !bytes.Equal(got, old) {
			t.Errorf("what is written now is not what %s holds (%v): %s", dir, err, got)
		}
		if r, err := read(dir); err != nil || !reflect.DeepEqual(r, want) {
			t.Errorf("read %+v, %v", r, err)
		}
	}
}

func TestAFileThatNoSourceWritesIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":                             `{`,
		"a later format":                      `{"format":2}`,
		"no format":                           `{}`,
		"an unknown mode":                     `{"format":1,"affinity":"all"}`,
		"a place beyond the list":             `{"format":1,"attrs":[{}],"threads":[[1,1,1]]}`,
		"a place before it":                   `{"format":1,"attrs":[{}],"threads":[[1,1,-1]]}`,
		"a pid below 1":                       `{"format":1,"attrs":[{}],"threads":[[0,1,0]]}`,
		"a tid above all":                     `{"format":1,"attrs":[{}],"threads":[[1,4194305,0]]}`,
		"a thread twice":                      `{"format":1,"attrs":[{}],"threads":[[1,1,0],[1,1,0]]}`,
		"a process twice":                     `{"format":1,"processes":[{"pid":1},{"pid":1}]}`,
		"a process below 1":                   `{"format":1,"processes":[{"pid":-1}]}`,
		"no processors":                       `{"format":1,"attrs":[{"cpus":"all"}]}`,
		"too many processors":                 `{"format":1,"attrs":[{"cpus":"0-8192"}]}`,
		"an I/O priority":                     `{"format":1,"attrs":[{"io_priority":65536}]}`,
		"an unknown hearing of failed memory": `{"format":1,"attrs":[{"mce":3}]}`,
		"a policy":                            `{"format":1,"attrs":[{"policy":{"mode":7}}]}`,
		"a node of memory":                    `{"format":1,"attrs":[{"policy":{"mode":2,"nodes":"1024"}}]}`,
		"memory without size":                 `{"format":1,"processes":[{"pid":1,"areas":[{"start":4096,"end":4096}]}]}`,
		"memory in part":                      `{"format":1,"processes":[{"pid":1,"areas":[{"start":1,"end":4096}]}]}`,
		"memory of the kernel":                `{"format":1,"processes":[{"pid":1,"areas":[{"start":4096,"end":18446744073709547520}]}]}`,
		"a policy of memory":                  `{"format":1,"processes":[{"pid":1,"areas":[{"start":0,"end":4096,"policy":{"mode":4096}}]}]}`,
		"a negative number":                   `{"format":1,"attrs":[{"timer_slack":-1}]}`,
	} {
		if r, err := decode([]byte(text)); err == nil {
			t.Errorf("%s: read %+v", name, r)
		}
	}
	images := t.TempDir()
	path := filepath.Join(images, fileName)
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)); err != nil {
		t.Fatal(err)
	}
	if _, err := read(images); !errors.Is(err, image.ErrSize) {
		t.Errorf("more than any machine could take in: %v", err)
	}
}

// FuzzAttributes has a node send any file: what is read of it is what would be sent on.
func FuzzAttributes(f *testing.F) {
	for _, dir := range []string{golden, goldenWithin} {
		data, err := os.ReadFile(filepath.Join(dir, fileName))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data)
		if err != nil {
			return
		}
		sent, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(sent)
		if err != nil {
			t.Fatalf("%q becomes %q: %v", data, sent, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(sent, twice) {
			t.Errorf("%q becomes %q and then %q: %v", data, sent, twice, err)
		}
	})
}
