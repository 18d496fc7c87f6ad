package pages

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// TestAnyPatternOfZeroPagesSurvivesPacking packs pieces in place, as build does after
// the read, and compares with what was there.
func TestAnyPatternOfZeroPagesSurvivesPacking(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := newBuilder()
	for round := range 60 {
		density := random.Float64()
		var pieces []piece
		var want []byte
		room, off := maxFrame, 0
		for room >= image.RunHeaderSize+image.PageSize {
			pages := 1 + random.IntN(min(1+round, (room-image.RunHeaderSize)/image.PageSize))
			pieces = append(pieces, piece{vpid: 1, addr: uint64(off+1<<20) &^ (image.PageSize - 1), pages: int64(pages)})
			off += image.RunHeaderSize
			data := b.buf[off : off+pages*image.PageSize]
			fillRandom(random, data, density)
			want = append(want, data...)
			off += len(data)
			room -= image.RunHeaderSize + len(data)
		}
		if got := repack(t, b, pieces); !bytes.Equal(got, want) {
			t.Fatalf("round %d: the pages changed", round)
		}
	}
}

func fillRandom(random *rand.Rand, data []byte, density float64) {
	clear(data)
	for ; len(data) > 0; data = data[image.PageSize:] {
		if random.Float64() < density {
			data[random.IntN(image.PageSize)] = byte(1 + random.IntN(255))
		}
	}
}

// repack packs what lies in the builder's buffer and takes the frame apart again.
func repack(t *testing.T, b *builder, pieces []piece) []byte {
	t.Helper()
	frame, off := b.buf[:0], 0
	for _, p := range pieces {
		off += image.RunHeaderSize
		frame, _ = b.pack(frame, p, b.buf[off:off+int(p.size())])
		off += int(p.size())
	}
	if len(frame) > off {
		t.Fatalf("the frame grew from %d to %d bytes", off, len(frame))
	}
	var got []byte
	if err := image.EachRun(frame, func(r image.Run) error {
		got = append(got, r.Data...)
		if r.Zero {
			got = append(got, make([]byte, r.Pages*image.PageSize)...)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}
