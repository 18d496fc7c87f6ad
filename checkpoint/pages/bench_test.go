package pages

import (
	"testing"

	"github.com/zeebo/xxh3"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// sinkhole takes frames and forgets them.
type sinkhole struct{}

func (sinkhole) WriteFrame([]byte) error { return nil }

// BenchmarkScan looks at unchanged memory: what stands still on kernels that do not
// keep track of writes.
func BenchmarkScan(b *testing.B) {
	for _, role := range []string{"gigabyte", "huge gigabyte"} {
		for _, lanes := range []int{1, 2} {
			b.Run(role+"/"+string(rune('0'+lanes)), func(b *testing.B) {
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
				b.ResetTimer()
				for b.Loop() {
					r, err := m.Scan(b.Context(), tasks, sinks)
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(r.Looked)
				}
			})
		}
	}
}

func BenchmarkSum(b *testing.B) {
	page := make([]byte, image.PageSize)
	fillPage(page, 1)
	b.SetBytes(image.PageSize)
	for b.Loop() {
		xxh3.Hash128Seed(page, 42)
	}
}

func BenchmarkSumUnseeded(b *testing.B) {
	page := make([]byte, image.PageSize)
	fillPage(page, 1)
	b.SetBytes(image.PageSize)
	for b.Loop() {
		xxh3.Hash128(page)
	}
}
