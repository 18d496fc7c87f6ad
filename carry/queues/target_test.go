package queues

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/mqueue"
)

func TestDamagedQueuesAreRefused(t *testing.T) {
	images := t.TempDir()
	r := NewRestorer(carry.Env{Images: images})
	if err := r.NamespacesReady(os.Getpid()); err != nil {
		t.Errorf("a job without queues: %v", err)
	}
	if err := os.WriteFile(filepath.Join(images, fileName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.NamespacesReady(os.Getpid()); err == nil || !strings.Contains(err.Error(), "message queues") {
		t.Errorf("got %v", err)
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
