package demo

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCleanUpNamesWhatIsLeft(t *testing.T) {
	d := dirs{durable: t.TempDir(), volatile: filepath.Join(t.TempDir(), "never made")}
	if got, want := remains(nil, d), []string{"directory " + d.durable}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	if err := d.remove(); err != nil {
		t.Fatal(err)
	}
	if got := remains(nil, d); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// An interrupt may come before anything was made.
func TestCleanUpOfNothingSucceeds(t *testing.T) {
	d := &demo{out: newOutput()}
	if left := d.cleanUp(t.Context()); len(left) > 0 {
		t.Errorf("%q", left)
	}
}

// A job that is on its way has a cgroup where there is no record of it yet.
func TestCleanUpLooksForCgroupsOnBothNodes(t *testing.T) {
	a := &node{name: nameA, state: t.TempDir()}
	b := &node{name: nameB, state: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(a.state, "jobs", "jaaaaaaaaaa"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := []string{"migrate-node-a-jaaaaaaaaaa", "migrate-node-b-jaaaaaaaaaa"}
	if got := cgroupNames([]*node{a, b}); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}
