package node_test

import (
	"testing"

	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
)

func TestIDRangeHoldsNoneOfItsUsersOwn(t *testing.T) {
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{UserNS: true}}
	if err := nodetest.New(t).ChooseIDs(&rec); err != nil {
		t.Fatal(err)
	}
	first := rec.Spec.UIDBase
	for _, own := range []uint32{first, first + 5, first + job.IDRange - 1} {
		for _, s := range []job.Spec{{UID: own}, {GID: own}, {UID: 1000, GID: 1000, Groups: []uint32{7, own}}} {
			s.UserNS, rec.Spec = true, s
			if err := nodetest.New(t).ChooseIDs(&rec); err != nil || rec.Spec.UIDBase == first {
				t.Errorf("the range of %d is given to a user who has %d (%v)", rec.Spec.UIDBase, own, err)
			}
		}
	}
}
