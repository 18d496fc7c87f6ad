package scan

import (
	"fmt"
	"testing"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// sinkhole takes frames and forgets them.
type sinkhole struct{}

func (sinkhole) WriteFrame([]byte) error { return nil }

// BenchmarkScan scans unchanged memory of frozen processes. The processor time counts, of the
// program and of the kernel for it. The clock also shows what else ran.
func BenchmarkScan(b *testing.B) {
	for _, role := range []string{"gigabyte", "half gigabyte", "huge gigabyte", "huge half gigabyte"} {
		for _, lanes := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/%d", role, lanes), func(b *testing.B) {
				p := launch(b, role)
				m, err := New(lanes)
				if err != nil {
					b.Fatal(err)
				}
				defer m.Close()
				var sinks []Sink
				for range lanes {
					sinks = append(sinks, sinkhole{})
				}
				tasks := p.stop(b)
				if _, err := m.Scan(b.Context(), tasks, sinks); err != nil {
					b.Fatal(err)
				}
				var looked int64
				user, system := processorTime(b)
				for b.Loop() {
					r, err := m.Scan(b.Context(), tasks, sinks)
					if err != nil {
						b.Fatal(err)
					}
					looked += r.Compared
				}
				user2, system2 := processorTime(b)
				gb := float64(looked) / 1e9
				b.ReportMetric(1e3*(user2-user)/gb, "user-ms/GB")
				b.ReportMetric(1e3*(system2-system)/gb, "system-ms/GB")
				b.ReportMetric(gb/(user2-user+system2-system), "GB/cpu-s")
			})
		}
	}
}

// processorTime is what the test has used so far, in seconds.
func processorTime(b *testing.B) (user, system float64) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()) / 1e9, float64(u.Stime.Nano()) / 1e9
}

func BenchmarkSum(b *testing.B) {
	page := make([]byte, stream.PageSize)
	fillPage(page, 1)
	b.SetBytes(stream.PageSize)
	for b.Loop() {
		xxh3.Hash128Seed(page, 42)
	}
}

func BenchmarkSumUnseeded(b *testing.B) {
	page := make([]byte, stream.PageSize)
	fillPage(page, 1)
	b.SetBytes(stream.PageSize)
	for b.Loop() {
		xxh3.Hash128(page)
	}
}
