package node_test

import (
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
)

func TestLeavingJobHasOneMoveAtATime(t *testing.T) {
	a, id := nodetest.New(t), job.NewID()
	release, err := a.Leaving.Claim(id, "m1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Leaving.Claim(id, "m2"); err == nil || !strings.Contains(err.Error(), "m1") || !a.Leaving.IsLeaving(id) {
		t.Errorf("got %v", err)
	}
	release()
	if a.Leaving.IsLeaving(id) {
		t.Error("it is still claimed")
	}
	if release, err = a.Leaving.Claim(id, "m2"); err != nil {
		t.Fatal(err)
	}
	release()
}
