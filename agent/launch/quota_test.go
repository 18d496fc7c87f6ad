package launch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/output"
)

func TestQuotaBoundsWhatAUserKeeps(t *testing.T) {
	a := &Launcher{Node: nodetest.New(t)}
	room, err := output.RoomAt(a.Paths.Jobs())
	if err != nil {
		t.Fatal(err)
	}
	user := func(uid uint32) func(*job.Record) { return func(r *job.Record) { r.Spec.UID = uid } }
	done, err := a.Admit(1000)
	if err != nil {
		t.Fatal(err)
	}
	done()
	rec := nodetest.Known(t, a.Node, user(1000))
	if err := os.MkdirAll(a.IODir(rec.ID), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(a.IODir(rec.ID), "stdout"), nil, 0o600), os.Truncate(filepath.Join(a.IODir(rec.ID), "stdout"), room.Share()+1)); err != nil {
		t.Fatal(err)
	}
	var told *api.Error
	if _, err := a.Admit(1000); !errors.As(err, &told) || told.Code != api.CodeQuota || !strings.Contains(told.Hint, "migrate rm") {
		t.Errorf("with output of %d bytes: %v", room.Share()+1, err)
	}
	for _, uid := range []uint32{1001, 0} {
		if done, err := a.Admit(uid); err != nil {
			t.Errorf("user %d: %v", uid, err)
		} else {
			done()
		}
	}
	if found := a.QuotaFindings(job.Record{ID: job.NewID(), Spec: job.Spec{UID: 1000}}); len(found) != 1 || found[0].Code != "quota-reached" {
		t.Errorf("for a move that arrives: %v", found)
	}
	if found := a.QuotaFindings(job.Record{ID: job.NewID(), Spec: job.Spec{UID: 1001}}); len(found) != 0 {
		t.Errorf("for another user's: %v", found)
	}
}

func TestQuotaCountsJobsWhileTheyStart(t *testing.T) {
	a := &Launcher{Node: nodetest.New(t)}
	for range MostAlive {
		if _, err := a.Admit(1000); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Admit(1000); err == nil {
		t.Errorf("%d jobs start at a time", MostAlive+1)
	}
	for range 2 * MostAlive {
		if _, err := a.Admit(0); err != nil {
			t.Fatal(err)
		}
	}
}
