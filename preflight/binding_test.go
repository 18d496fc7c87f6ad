package preflight

import (
	"testing"

	"github.com/migrate-hpc/migrate/affinity"
)

func TestProcessorsOfBoundThreadsAreAskedForOnlyIfTheyAreToBeKept(t *testing.T) {
	cpus := func(text string) affinity.Set {
		c, err := affinity.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, c := range []struct {
		bound, here string
		keep, binds bool
		want        []Code
	}{
		{"2-3", "0-7", true, true, nil},
		{"2-3", "0-1", false, true, nil},
		{"2-3", "0-2", true, true, []Code{CPUsMissing}},
		{"", "0-1", true, false, nil},
		{"0", "0-1", false, false, nil},
		{"0", "0-1", true, false, []Code{CPUsMissing}}, // an older target
	} {
		f, n := good(), needs()
		f.CPUs, n.CPUs, n.KeepCPUs = cpus(c.here), cpus(c.bound), c.keep
		var r report
		f.judge(&r, n)
		found := r.findings()
		if f := CheckBinding(n, c.binds); f != nil {
			found = append(found, *f)
		}
		wantCodes(t, found, c.want...)
	}
}
