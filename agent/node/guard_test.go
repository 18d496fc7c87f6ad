package node_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

func TestGuardOfAJournalWithoutAJobIsForThoseThatWereThere(t *testing.T) {
	a := nodetest.New(t)
	if err := os.WriteFile(filepath.Join(a.Paths.Moves(), string(handoff.NewMoveID())+".journal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nodetest.ReopenJournal(t, a)
	now := time.Now()
	for name, c := range map[string]struct {
		rec     job.Record
		guarded bool
	}{
		"moved before":                      {job.Record{Epoch: 1, Created: now.Add(-time.Hour)}, true},
		"moved before, of the same time":    {job.Record{Epoch: 1, Created: now}, true},
		"moved before, if clocks are right": {job.Record{Epoch: 1, Created: now.Add(time.Hour)}, true},
		"younger":                           {job.Record{Epoch: 1, Created: now.Add(25 * time.Hour)}, false},
		"never moved":                       {job.Record{Created: now.Add(-time.Hour)}, false},
	} {
		c.rec.ID = job.NewID()
		if err := a.CheckMovable(c.rec); (nodetest.CodeOf(err) == api.CodeRefused) != c.guarded {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.CheckArrival(c.rec); err != nil {
			t.Errorf("%s: it was never here, and may not come: %v", name, err)
		}
	}
}
