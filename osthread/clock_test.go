package osthread

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// onOneProcessor runs fn on a thread that shares the first processor with so many others
// that never sleep.
func onOneProcessor(t *testing.T, others int, fn func()) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(others + 2)) // they are to wait for the kernel, not for Go
	var may, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for i := 0; only.Count() == 0; i++ {
		if may.IsSet(i) {
			only.Set(i)
		}
	}
	var over atomic.Bool
	var all sync.WaitGroup
	there := func(fn func()) {
		all.Go(func() {
			runtime.LockOSThread() // the thread ends with its goroutine
			if err := unix.SchedSetaffinity(0, &only); err != nil {
				t.Error(err)
			}
			fn()
		})
	}
	for range others {
		there(func() {
			for !over.Load() {
			}
		})
	}
	there(func() {
		defer over.Store(true)
		fn()
	})
	all.Wait()
}

func TestAClockStandsStillWithoutAProcessor(t *testing.T) {
	if _, err := os.Stat("/proc/thread-self/schedstat"); err != nil {
		const why = "the kernel keeps no count of how long threads wait (CONFIG_SCHED_INFO): "
		testenv.Missing(t, "%s %v", why, err)
	}
	var wall, own time.Duration
	onOneProcessor(t, 3, func() {
		c := NewClock()
		defer c.Close()
		began, sum := time.Now(), 0
		for time.Since(began) < 400*time.Millisecond {
			sum++
		}
		wall, own = time.Since(began), c.Now()
	})
	if own <= 0 || own > wall*2/3 {
		t.Errorf("by its own clock a thread that had a quarter of a processor ran for %v of %v", own, wall)
	}
}

func TestAClockGoesOnWhileItsThreadSleeps(t *testing.T) {
	const nap = 20 * time.Millisecond
	for name, clock := range map[string]func() *Clock{"of a thread": NewClock, "of the wall": Wall} {
		runtime.LockOSThread()
		c := clock()
		before := c.Now()
		ts := unix.NsecToTimespec(nap.Nanoseconds())
		for unix.Nanosleep(&ts, &ts) == unix.EINTR {
		}
		if slept := c.Now() - before; slept < nap/2 {
			t.Errorf("%s: %v of %v", name, slept, nap)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	}
}
