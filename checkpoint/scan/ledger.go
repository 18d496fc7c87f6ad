package scan

import (
	"errors"
	"math/bits"
	"unsafe"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

const (
	// chunkSize is the unit in which memory is bound to lanes, in bytes.
	chunkSize  = 2 << 20
	chunkPages = chunkSize / stream.PageSize
	// blockSlabs is how many slabs are mapped at once: 1 MiB.
	blockSlabs = 128
	// indexEntries is how many pages all lanes together find again by what they hold.
	indexEntries = 1 << 20
)

// sum stands for what a page holds.
type sum = xxh3.Uint128

var (
	unknown = sum{}      // the target does not have the page
	zeros   = sum{Lo: 1} // every byte of it is zero
)

// slab is what the target has of 2 MiB of one process.
type slab struct {
	sums [chunkPages]sum
	seen pageSet // pages whose sum is that of the frozen job
	read pageSet // pages that were read since the tracker began to follow the process
	vpid stream.VPID
	base uint64 // address of the first page
}

// pageSet is some pages of a slab.
type pageSet [chunkPages / 64]uint64

func (s *pageSet) add(page int)      { s[page/64] |= 1 << (page % 64) }
func (s *pageSet) drop(page int)     { s[page/64] &^= 1 << (page % 64) }
func (s *pageSet) has(page int) bool { return s[page/64]>>(page%64)&1 == 1 }

// gap returns the first run of pages in [page, end) that are not in the set. It is empty if from
// is to.
func (s *pageSet) gap(page, end int) (from, to int) {
	from = s.next(page, end, false)
	return from, s.next(from, end, true)
}

// next returns the first page from page on that is in the set, or is not, or end.
func (s *pageSet) next(page, end int, in bool) int {
	for page < end {
		word := s[page/64]
		if !in {
			word = ^word
		}
		if word >>= page % 64; word != 0 {
			return min(end, page+bits.TrailingZeros64(word))
		}
		page = page&^63 + 64
	}
	return end
}

func (s *slab) place(page int) stream.Place {
	return stream.Place{VPID: s.vpid, Addr: s.base + uint64(page)*stream.PageSize}
}

type slabKey struct {
	vpid stream.VPID
	base uint64
}

// ledger mirrors what the target has once it has read a lane to its end. It is for one goroutine.
// Its tables take 16 bytes for each page of the job. They lie outside of Go's heap, which would
// double them.
type ledger struct {
	seed   uint64
	blocks [][]slab
	used   uint32 // slabs handed out, of all blocks
	slabs  map[slabKey]uint32
	// index finds a page by its sum: number of slab × chunkPages + page + 1. Newer
	// pages push out older ones. What it says holds only if that page's sum agrees.
	index []uint32
}

func newLedger(seed uint64, lanes int) (*ledger, error) {
	l := &ledger{seed: seed, slabs: map[slabKey]uint32{}}
	entries := indexEntries >> bits.Len(uint(lanes-1))
	mem, err := mapMemory(entries * 4)
	if err != nil {
		return nil, err
	}
	l.index = unsafe.Slice((*uint32)(unsafe.Pointer(&mem[0])), entries)
	return l, nil
}

func mapMemory(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

func (l *ledger) close() error {
	err := unix.MunmapPtr(unsafe.Pointer(&l.index[0]), uintptr(len(l.index)*4))
	for _, b := range l.blocks {
		err = errors.Join(err, unix.MunmapPtr(unsafe.Pointer(&b[0]), blockSlabs*unsafe.Sizeof(slab{})))
	}
	*l = ledger{}
	return err
}

// sum identifies a page by its content. Different pages have different sums. A job that wanted an
// exception would have to know the seed.
func (l *ledger) sum(page []byte) sum {
	s := xxh3.Hash128Seed(page, l.seed)
	if s == unknown || s == zeros {
		s.Hi = 1
	}
	return s
}

func (l *ledger) slab(number uint32) *slab { return &l.blocks[number/blockSlabs][number%blockSlabs] }

// slabFor returns the slab for the chunk at base, and its number.
func (l *ledger) slabFor(vpid stream.VPID, base uint64) (*slab, uint32, error) {
	key := slabKey{vpid, base}
	if n, ok := l.slabs[key]; ok {
		return l.slab(n), n, nil
	}
	n, err := l.newSlab()
	if err != nil {
		return nil, 0, err
	}
	l.slabs[key] = n
	s := l.slab(n)
	s.vpid, s.base = vpid, base
	return s, n, nil
}

// newSlab returns the number of a slab that is not in use and empty.
func (l *ledger) newSlab() (uint32, error) {
	if int(l.used) == len(l.blocks)*blockSlabs {
		mem, err := mapMemory(blockSlabs * int(unsafe.Sizeof(slab{})))
		if err != nil {
			return 0, err
		}
		l.blocks = append(l.blocks, unsafe.Slice((*slab)(unsafe.Pointer(&mem[0])), blockSlabs))
	}
	l.used++
	return l.used - 1, nil
}

// clearSeen makes every page unseen.
func (l *ledger) clearSeen() {
	for _, n := range l.slabs {
		l.slab(n).seen = pageSet{}
	}
}

// clearSeenPage makes one page unseen.
func (l *ledger) clearSeenPage(p stream.Place) {
	if s, page, ok := l.lookup(p); ok {
		s.seen.drop(page)
	}
}

func (l *ledger) seen(p stream.Place) bool {
	s, page, ok := l.lookup(p)
	return ok && s.seen.has(page)
}

func (l *ledger) lookup(p stream.Place) (s *slab, page int, ok bool) {
	base := p.Addr &^ (chunkSize - 1)
	n, ok := l.slabs[slabKey{p.VPID, base}]
	if !ok {
		return nil, 0, false
	}
	return l.slab(n), int((p.Addr - base) / stream.PageSize), true
}

// clearRead forgets that pages were read, of the process or, with 0, of all.
func (l *ledger) clearRead(vpid stream.VPID) {
	for key, n := range l.slabs {
		if vpid == 0 || key.vpid == vpid {
			l.slab(n).read = pageSet{}
		}
	}
}

// set notes what the target has of a page from now on.
func (l *ledger) set(number uint32, page int, sum sum) {
	l.slab(number).sums[page] = sum
	if sum != zeros && sum != unknown {
		l.index[sum.Lo&uint64(len(l.index)-1)] = number*chunkPages + uint32(page) + 1
	}
}

// find looks for a page that the target has and that is known by sum.
func (l *ledger) find(sum sum) (stream.Place, bool) {
	entry := l.index[sum.Lo&uint64(len(l.index)-1)]
	if entry == 0 {
		return stream.Place{}, false
	}
	s, page := l.slab((entry-1)/chunkPages), int((entry-1)%chunkPages)
	return s.place(page), s.sums[page] == sum
}

// targetHas tells whether the target has this page at this place.
func (l *ledger) targetHas(at stream.Place, page []byte) bool {
	base := at.Addr / chunkSize * chunkSize
	n, ok := l.slabs[slabKey{at.VPID, base}]
	return ok && l.slab(n).sums[(at.Addr-base)/stream.PageSize] == l.sum(page)
}

// laneOf binds memory to lanes by its address, for all processes. Equal pages of two processes are
// often at the same address. A copy must be on the lane of its original.
func laneOf(addr uint64, lanes int) int { return int(addr / chunkSize % uint64(lanes)) }
