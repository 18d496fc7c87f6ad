package source

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestThawThatFailsKeepsWhatTheNextOneMustKnow(t *testing.T) {
	freezer, dir := t.TempDir(), t.TempDir()
	state := filepath.Join(freezer, "freezer.state")
	if err := os.Mkdir(state, 0o700); err != nil { // a file that cannot be written
		t.Fatal(err)
	}
	d := &Job{dir: dir, Src: &checkpoint.Source{Dir: dir, Processes: checkpoint.Processes{Cgroup: &cgroup.Cgroup{Dirs: map[string]string{"freezer": freezer}}}}}
	note := filepath.Join(dir, "criu.pid")
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Thaw(testenv.Bounded(t)); err == nil {
		t.Fatal("thawed")
	}
	if _, err := os.Stat(note); err != nil {
		t.Error(err)
	}
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	if err := d.Thaw(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

func TestThawDoesNotWaitForAFileServer(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stalled := &sending{cancel: cancel, done: make(chan struct{})} // in a write that does not return
	dir := t.TempDir()
	d := &Job{dir: dir, Sending: stalled, Src: &checkpoint.Source{Dir: dir, Processes: checkpoint.Processes{Cgroup: &cgroup.Cgroup{}}}}
	thawed := make(chan error, 1)
	go func() { thawed <- d.Thaw(testenv.Bounded(t)) }()
	select {
	case err := <-thawed:
		if err != nil {
			t.Error(err)
		}
	case <-testenv.Bounded(t).Done():
		t.Error("it waits")
	}
	if ctx.Err() == nil {
		t.Error("the sending was not given up")
	}
	close(stalled.done)
}
