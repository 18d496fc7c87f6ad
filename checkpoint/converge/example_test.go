package converge_test

import (
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/checkpoint/converge"
)

// A job of 1 GiB writes 100 MiB/s, and the link carries ten times that.
func ExamplePlan() {
	plan := converge.New(
		converge.Limits{Downtime: 300 * time.Millisecond},
		converge.Costs{Base: 100 * time.Millisecond, Processors: 4})
	const looking = 100 * time.Millisecond
	dirty, took, since := int64(1<<30), time.Duration(0), time.Duration(0)
	for step := converge.Again; step == converge.Again; {
		took = looking + time.Duration(float64(dirty)/float64(1000<<20)*1e9)
		v := plan.After(converge.Round{Took: took, Interval: since, Memory: 1 << 30, Compared: 1 << 30, Dirty: dirty, Reading: looking, Scanning: looking / 4})
		fmt.Printf("%s: %s\n", v.Step, v.Reason)
		since, step = took, v.Step
		dirty = int64(took.Seconds() * 100 * (1 << 20))
	}
	// Output:
	// again: forecast 1.149s is above 300ms
	// freeze: forecast 146ms is within 300ms
}
