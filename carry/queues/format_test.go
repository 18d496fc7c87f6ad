package queues

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/mqueue"
)

const golden = "testdata/format-1"

func TestQueuesAreWrittenAsTheyAlwaysWere(t *testing.T) {
	images, want := t.TempDir(), []mqueue.Queue{
		{Name: "empty", Mode: 0o640, UID: 1000, GID: 100, MaxMessages: 3, MessageSize: 16},
		{Name: "full", Mode: 0o600, MaxMessages: 4, MessageSize: 64, Messages: []mqueue.Message{{Priority: 9, Data: []byte("first\xff")}, {Data: []byte{}}}},
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
	if queues, err := read(golden); err != nil || !reflect.DeepEqual(queues, want) {
		t.Errorf("read %+v, %v", queues, err)
	}
}

func TestQueuesAboveTheBoundAreNeitherWrittenNorRead(t *testing.T) {
	images := t.TempDir()
	q := mqueue.Queue{Messages: []mqueue.Message{{Data: make([]byte, maxFile)}}}
	if err := write(images, []mqueue.Queue{q}); !errors.Is(err, image.ErrSize) {
		t.Errorf("queues that could not be read back: %v", err)
	}
	path := filepath.Join(images, fileName)
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)); err != nil { // more than any machine could take in
		t.Fatal(err)
	}
	if _, err := read(images); !errors.Is(err, image.ErrSize) {
		t.Errorf("got %v", err)
	}
}

// FuzzQueues has a node send any file: what is read of it is what would be sent on.
func FuzzQueues(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(golden, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`[{"name":"../up","messages":[{"data":"!"}]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		images := t.TempDir()
		if err := os.WriteFile(filepath.Join(images, fileName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		queues, err := read(images)
		if err != nil {
			return
		}
		if err := write(images, queues); err != nil {
			t.Fatal(err)
		}
		sent, err := os.ReadFile(filepath.Join(images, fileName))
		if err != nil {
			t.Fatal(err)
		}
		if queues, err = read(images); err == nil {
			err = write(images, queues)
		}
		again, readErr := os.ReadFile(filepath.Join(images, fileName))
		if err = errors.Join(err, readErr); err != nil || !bytes.Equal(sent, again) {
			t.Errorf("%q becomes %q and then %q: %v", data, sent, again, err)
		}
	})
}
