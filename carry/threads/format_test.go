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

const golden = "testdata/format-1"

func cpus(t *testing.T, text string) affinity.CPUs {
	t.Helper()
	c, err := affinity.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAttributesAreWrittenAsTheyAlwaysWere(t *testing.T) {
	filter := uint32(7)
	images, want := t.TempDir(), record{
		Format: 1, Affinity: affinity.Keep,
		Attrs:     []attrs{{CPUs: cpus(t, "2-3,64")}, {IOPriority: 2<<13 | 4, TimerSlack: 1000}},
		Threads:   [][3]int{{1, 1, 0}, {1, 7, 1}},
		Processes: []process{{PID: 1, CoredumpFilter: &filter}},
	}
	if err := write(images, want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(images, fileName))
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(golden, fileName))
	if err != nil || !bytes.Equal(got, old) {
		t.Errorf("what is written now is not what %s holds (%v): %s", golden, err, got)
	}
	if r, err := read(golden); err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("read %+v, %v", r, err)
	}
}

func TestAFileThatNoSourceWritesIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":                 `{`,
		"a later format":          `{"format":2}`,
		"no format":               `{}`,
		"an unknown mode":         `{"format":1,"affinity":"all"}`,
		"a place beyond the list": `{"format":1,"attrs":[{}],"threads":[[1,1,1]]}`,
		"a place before it":       `{"format":1,"attrs":[{}],"threads":[[1,1,-1]]}`,
		"a pid below 1":           `{"format":1,"attrs":[{}],"threads":[[0,1,0]]}`,
		"a tid above all":         `{"format":1,"attrs":[{}],"threads":[[1,4194305,0]]}`,
		"a thread twice":          `{"format":1,"attrs":[{}],"threads":[[1,1,0],[1,1,0]]}`,
		"a process twice":         `{"format":1,"processes":[{"pid":1},{"pid":1}]}`,
		"a process below 1":       `{"format":1,"processes":[{"pid":-1}]}`,
		"no processors":           `{"format":1,"attrs":[{"cpus":"all"}]}`,
		"too many processors":     `{"format":1,"attrs":[{"cpus":"0-8192"}]}`,
		"an I/O priority":         `{"format":1,"attrs":[{"io_priority":65536}]}`,
		"a negative number":       `{"format":1,"attrs":[{"timer_slack":-1}]}`,
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
	data, err := os.ReadFile(filepath.Join(golden, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
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
