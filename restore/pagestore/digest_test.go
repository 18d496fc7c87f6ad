package pagestore

import (
	"testing"

	"github.com/migrate-hpc/migrate/stream"
)

// FuzzDigests has a source send any digests. A page with another digest is never accepted, whether
// it is there or arrives later. No page gets two digests.
func FuzzDigests(f *testing.F) {
	const seed, here, later = 7, 1 << 20, 1 << 21
	data := fill(2, 1)
	frame := func(wrong int) []byte {
		var b stream.DigestBatch
		for i, addr := range []uint64{here, here + stream.PageSize, later, later + stream.PageSize} {
			sum := stream.PageDigest(seed, data[i%2*stream.PageSize:][:stream.PageSize])
			if i == wrong {
				sum[0]++
			}
			b.Add(3, addr, sum)
		}
		return b.Bytes()
	}
	for wrong := range 5 {
		f.Add(frame(wrong))
	}
	f.Add(append(frame(2), frame(4)...))
	f.Fuzz(func(t *testing.T, batch []byte) {
		s := mustCreate(t)
		mustPut(t, s, 3, here, data)
		var d Digests
		wrong := map[uint64]bool{}
		said := map[stream.Place]bool{}
		twice := false
		err := stream.EachDigests(batch, func(r stream.Digests) error {
			for i := range r.Pages() {
				addr := r.Addr + uint64(i)*stream.PageSize
				twice = twice || said[stream.Place{VPID: r.VPID, Addr: addr}]
				said[stream.Place{VPID: r.VPID, Addr: addr}] = true
				for n, known := range []uint64{here, here + stream.PageSize, later, later + stream.PageSize} {
					if r.VPID == 3 && addr == known && [stream.DigestSize]byte(r.Sums[i*stream.DigestSize:]) != stream.PageDigest(seed, data[n%2*stream.PageSize:][:stream.PageSize]) {
						wrong[addr] = true
					}
				}
			}
			return d.Check(s, seed, r)
		})
		if err != nil {
			return
		}
		if wrong[here] || wrong[here+stream.PageSize] || twice || d.Pages() != int64(len(said)) {
			t.Errorf("it passes: wrong are %v, twice %v; %d pages named, %d counted", wrong, twice, len(said), d.Pages())
		}
		if landed := d.Arrived(3, later, data); (wrong[later] || wrong[later+stream.PageSize]) != (landed != nil) {
			t.Errorf("what lands: %v, wrong are %v", landed, wrong)
		}
	})
}
