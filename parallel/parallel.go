// Package parallel spreads work on the processors while a job is frozen.
package parallel

import (
	"runtime"

	"golang.org/x/sync/errgroup"
)

// atOnce is how many pieces a worker takes at a time: one alone would cost less than to hand it out.
const atOnce = 32

// Each calls do with 0 to n-1, each number once, on all processors. After an error, which it returns,
// not all may have been called.
func Each(n int, do func(int) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < n; from += atOnce {
		group.Go(func() error {
			for i := from; i < min(from+atOnce, n); i++ {
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
