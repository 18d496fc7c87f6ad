package scan

import (
	"math/rand/v2"
	"testing"
)

func TestGapsAreThePagesThatASetLacks(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var set pageSet
		for range random.IntN(2 * chunkPages) {
			set.add(random.IntN(chunkPages))
		}
		start := random.IntN(chunkPages)
		end := start + random.IntN(chunkPages-start) + 1
		found := map[int]bool{}
		for page := start; ; {
			from, to := set.gap(page, end)
			if from == to {
				break
			}
			if to > end || from < page {
				t.Fatalf("a gap from %d to %d, between %d and %d", from, to, page, end)
			}
			for ; from < to; from++ {
				found[from] = true
			}
			page = to
		}
		for page := range chunkPages {
			if want := page >= start && page < end && !set.has(page); found[page] != want {
				t.Fatalf("page %d of %d to %d: in a gap is %v", page, start, end, found[page])
			}
		}
	}
}
