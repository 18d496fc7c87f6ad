package node

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/migrate-hpc/migrate/job"
)

func TestFreezeIsNotOvertakenBySignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g FreezeLocks
		id := job.NewID()
		leave, err := g.LockShared(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		come := func(name string, take func(context.Context, job.ID) (func(), error)) {
			go func() {
				done, err := take(t.Context(), id)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, name)
				done()
			}()
			synctest.Wait()
		}
		come("freeze", g.LockExclusive)
		come("signal", g.LockShared)
		if len(order) > 0 {
			t.Errorf("%v got through", order)
		}
		leave()
		synctest.Wait()
		if !slices.Equal(order, []string{"freeze", "signal"}) || len(g.jobs) > 0 {
			t.Errorf("got through: %v; kept: %v", order, g.jobs)
		}
	})
}
