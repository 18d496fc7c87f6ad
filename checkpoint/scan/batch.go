package scan

import (
	"bytes"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// batchPages is how many pages are read at once. A core's cache keeps that many until they have
// been compared. It is enough to outweigh the cost of a system call.
const batchPages = 128

// batch is some pages of one process that are read at once.
type batch struct {
	task   Task
	ranges []slabRange
	addrs  []pageRange // where they lie
	pages  int

	data []byte
	lost []bool        // could not be read
	sums []sum         // what the others hold
	took time.Duration // to read
}

// slabRange is consecutive pages of a slab.
type slabRange struct {
	slab   *slab
	number uint32 // of the slab
	page   int    // the first
	pages  int
}

func newBatch() (*batch, error) {
	data, err := mapMemory(batchPages * stream.PageSize)
	if err != nil {
		return nil, err
	}
	return &batch{data: data, lost: make([]bool, batchPages), sums: make([]sum, batchPages)}, nil
}

func (b *batch) close() error {
	return unix.MunmapPtr(unsafe.Pointer(&b.data[0]), uintptr(len(b.data)))
}

func (b *batch) reset() { b.ranges, b.addrs, b.pages = b.ranges[:0], b.addrs[:0], 0 }

func (b *batch) size() int64 { return int64(b.pages) * stream.PageSize }

func (b *batch) page(i int) []byte { return b.data[i*stream.PageSize:][:stream.PageSize] }

// add adds as many of the pages as there is room for, and returns their number.
func (b *batch) add(p slabRange) int {
	p.pages = min(p.pages, batchPages-b.pages)
	b.ranges = append(b.ranges, p)
	b.pages += p.pages
	addr := p.slab.place(p.page).Addr
	if n := len(b.addrs); n > 0 && b.addrs[n-1].addr+uint64(b.addrs[n-1].size()) == addr {
		b.addrs[n-1].pages += p.pages
	} else {
		b.addrs = append(b.addrs, pageRange{addr, p.pages})
	}
	return p.pages
}

// place is that of a page of the batch.
func (b *batch) place(i int) stream.Place {
	for _, p := range b.ranges {
		if i < p.pages {
			return p.slab.place(p.page + i)
		}
		i -= p.pages
	}
	return stream.Place{}
}

// sum computes the sums of the pages.
func (b *batch) sum(l *ledger) {
	for i := range b.pages {
		if b.lost[i] {
			continue
		}
		if page := b.page(i); isZero(page) {
			b.sums[i] = zeros
		} else {
			b.sums[i] = l.sum(page)
		}
	}
}

// zeroPage is what isZero compares with.
var zeroPage [stream.PageSize]byte

// isZero tells whether a page is zero. Most pages differ in their first bytes.
func isZero(page []byte) bool {
	return page[0] == 0 && bytes.Equal(page, zeroPage[:])
}
