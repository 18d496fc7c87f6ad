package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/testenv"
)

// leaving is a Job without tasks to freeze.
func leaving(t *testing.T, a *Sources, id job.ID) *Job {
	cg := &cgroup.Cgroup{Dirs: map[string]string{cgroup.Unified: filepath.Join(t.TempDir(), "none")}}
	return &Job{sources: a, Rec: job.Record{ID: id}, Src: &checkpoint.Source{Processes: checkpoint.Processes{Cgroup: cg}}}
}

func TestFreezeWaitsForASignalToItsOwnJobOnly(t *testing.T) {
	a, one := &Sources{nodetest.New(t)}, job.NewID()
	leave, err := a.FreezeLocks.LockShared(testenv.Bounded(t), one)
	if err != nil {
		t.Fatal(err)
	}
	testenv.InTime(t, func() {
		for range 1000 {
			d := leaving(t, a, job.NewID())
			if err := d.Freeze(testenv.Bounded(t)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the freeze of another job: %v", err)
			}
		}
		again, err := a.FreezeLocks.LockShared(testenv.Bounded(t), one)
		if err != nil {
			t.Fatal(err)
		}
		again()
		why := errors.New("the time of the freeze is over")
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		if err := leaving(t, a, one).Freeze(ctx); !errors.Is(err, why) || !strings.Contains(err.Error(), "signal") {
			t.Errorf("a freeze that waits for a signal: %v", err)
		}
		leave()
		if err := leaving(t, a, one).Freeze(testenv.Bounded(t)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the freeze after the signal: %v", err)
		}
	})
}
