package timens_test

import (
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/timens"
)

// A job that has run for two hours moves to a node that booted ten minutes ago.
func ExampleOffsetsFor() {
	frozen := timens.Reading{Monotonic: 2 * time.Hour, Boottime: 2 * time.Hour}
	target := timens.Reading{Monotonic: 10 * time.Minute, Boottime: 10 * time.Minute}
	mono, boot := timens.Continue(frozen, timens.Continuous, target, 0)
	monoOffset, bootOffset, err := timens.OffsetsFor(mono, boot, target)
	fmt.Println(monoOffset, bootOffset, err)
	fmt.Println(target.In(monoOffset, bootOffset).Monotonic)
	// Output:
	// 1h50m0s 1h50m0s <nil>
	// 2h0m0s
}

// A checkpoint is restored a day later: the job sees the day, or does not.
func ExampleContinue() {
	frozen := timens.Reading{Monotonic: 2 * time.Hour, Boottime: 3 * time.Hour}
	now := timens.Reading{Realtime: 24 * time.Hour} // after the freeze, by the wall clock
	for _, mode := range []timens.Mode{timens.Continuous, timens.Elapsed} {
		mono, boot := timens.Continue(frozen, mode, now, 0)
		fmt.Println(mode, mono, boot)
	}
	// Output:
	// continuous 2h0m0s 3h0m0s
	// elapsed 26h0m0s 27h0m0s
}
