package queues

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/carry"
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
