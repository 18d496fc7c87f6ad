package pagestore

import (
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// BlockSize is the unit in which the data file's memory is given back. Punching
// single pages would cost a system call each and split the kernel's extents.
const BlockSize = int64(1) << 20

// blocks hands out the data file from its start to its end and counts the pages in use per block.
// A page that two address spaces wait for (after a fork) counts twice. No place is used a second
// time. So a late write to a page that was replaced meanwhile does no harm.
type blocks struct {
	next int64   // where the next page goes
	live []int32 // users of pages, by block
}

// alloc reserves size bytes, with one user for each page.
func (b *blocks) alloc(size int64) int64 {
	off := b.next
	b.next += size
	b.grow()
	b.add(off, size, 1)
	return off
}

// grow makes the counters reach up to next.
func (b *blocks) grow() {
	if n := (b.next + BlockSize - 1) / BlockSize; n > int64(len(b.live)) {
		b.live = append(b.live, make([]int32, n-int64(len(b.live)))...)
	}
}

// add changes the users of a range and calls zero with each block left without.
func (b *blocks) add(off, size int64, users int32) (empty []int64) {
	for end := off + size; off < end; {
		i := off / BlockSize
		stop := min(end, (i+1)*BlockSize)
		b.live[i] += users * int32((stop-off)/stream.PageSize)
		if b.live[i] == 0 {
			empty = append(empty, i)
		}
		off = stop
	}
	return empty
}

func (b *blocks) retain(spans []pageset.Span) {
	for _, s := range spans {
		if s.Stored() {
			b.add(s.Off, s.Bytes(), 1)
		}
	}
}

// release takes back one user of each page and returns what is free now. The
// block that is still being handed out stays.
func (b *blocks) release(spans []pageset.Span) []hole {
	var out []hole
	for _, s := range spans {
		if !s.Stored() {
			continue
		}
		for _, i := range b.add(s.Off, s.Bytes(), -1) {
			if (i+1)*BlockSize <= b.next {
				out = append(out, hole{i * BlockSize, BlockSize})
			}
		}
	}
	return out
}

// count returns the blocks of a data file of this size, in bytes, with the users that the
// index tells of.
func count(all index, size int64) blocks {
	b := blocks{next: size}
	b.grow()
	for _, t := range all {
		for _, leaf := range t.Leaves {
			b.retain(leaf)
		}
	}
	return b
}
