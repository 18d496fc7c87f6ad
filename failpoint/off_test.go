//go:build !faults

package failpoint

import (
	"testing"
)

func TestWithoutTheTagNoPlanHasAnEffect(t *testing.T) {
	t.Setenv("MIGRATE_FAULTS", "/dev/stdin") // reading it would wait
	if err := Fail("sync", "x"); err != nil {
		t.Error(err)
	}
	Point("here")
}
