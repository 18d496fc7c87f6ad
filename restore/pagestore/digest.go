package pagestore

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// Digests compares pages with the digests of their source. It compares pages that are not there
// yet when they arrive. Methods may be called concurrently.
type Digests struct {
	mu      sync.Mutex
	pages   int64
	named   map[stream.VPID]*pageset.Set
	pending map[stream.VPID][]expected
}

// expected are the digests of pages that the store lacked.
type expected struct {
	seed uint64
	addr uint64
	sums []byte
}

func (e expected) end() uint64 { return e.addr + uint64(len(e.sums)/stream.DigestSize)*stream.PageSize }

// WrongPageError says which page differs from that of its source.
type WrongPageError struct {
	VPID stream.VPID
	Addr uint64
}

func (e *WrongPageError) Error() string {
	return fmt.Sprintf("the page at %#x of process %d is not what the source has", e.Addr, e.VPID)
}

// Pages is how many pages have got a digest so far.
func (d *Digests) Pages() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pages
}

// Check compares the pages that the store has, and keeps the digests of the others. A difference
// is a [*WrongPageError].
func (d *Digests) Check(s *Store, seed uint64, run stream.Digests) error {
	end := run.Addr + uint64(run.Pages())*stream.PageSize
	if err := d.markNamed(run.VPID, run.Addr, end); err != nil {
		return err
	}
	for at := run.Addr; at < end; {
		here, next := s.presentUntil(run.VPID, at, end)
		part := expected{seed, at, run.Sums[(at-run.Addr)/stream.PageSize*stream.DigestSize:][:(next-at)/stream.PageSize*stream.DigestSize]}
		at = next
		if !here {
			part.sums = slices.Clone(part.sums)
			d.addPending(run.VPID, part)
		} else if err := s.compare(run.VPID, part); err != nil {
			return err
		}
	}
	return nil
}

// markNamed counts pages. Two digests of one page are an error: only one could count.
func (d *Digests) markNamed(vpid stream.VPID, start, end uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.named == nil {
		d.named = map[stream.VPID]*pageset.Set{}
	}
	set := pageset.Of(d.named, vpid)
	if twice := set.Within(start, end); len(twice) > 0 {
		return fmt.Errorf("%w: the page at %#x of process %d is named twice", stream.ErrDigests, twice[0].Start, vpid)
	}
	set.Insert(pageset.Span{Start: start, End: end, Off: pageset.ZeroOff})
	d.pages += int64(end-start) / stream.PageSize
	return nil
}

// compare compares pages that the store has.
func (s *Store) compare(vpid stream.VPID, e expected) error {
	buf := make([]byte, min(64*stream.PageSize, e.end()-e.addr))
	for end := e.end(); e.addr < end; {
		part := buf[:min(uint64(len(buf)), end-e.addr)]
		if err := s.Read(stream.Place{VPID: vpid, Addr: e.addr}, part); err != nil {
			return err
		}
		for ; len(part) > 0; part = part[stream.PageSize:] {
			if stream.PageDigest(e.seed, part[:stream.PageSize]) != [stream.DigestSize]byte(e.sums) {
				return &WrongPageError{vpid, e.addr}
			}
			e.addr, e.sums = e.addr+stream.PageSize, e.sums[stream.DigestSize:]
		}
	}
	return nil
}

func (d *Digests) addPending(vpid stream.VPID, e expected) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending == nil {
		d.pending = map[stream.VPID][]expected{}
	}
	list := d.pending[vpid]
	at := sort.Search(len(list), func(i int) bool { return list[i].addr > e.addr })
	d.pending[vpid] = slices.Insert(list, at, e)
}

// Arrived compares pages that the store lacked when their digests came. It accepts pages without a
// digest.
func (d *Digests) Arrived(vpid stream.VPID, addr uint64, data []byte) error {
	d.mu.Lock()
	list := d.pending[vpid]
	d.mu.Unlock()
	for ; len(data) > 0; addr, data = addr+stream.PageSize, data[stream.PageSize:] {
		i := sort.Search(len(list), func(i int) bool { return list[i].end() > addr })
		if i == len(list) || list[i].addr > addr {
			continue
		}
		sum := list[i].sums[(addr-list[i].addr)/stream.PageSize*stream.DigestSize:][:stream.DigestSize]
		if stream.PageDigest(list[i].seed, data[:stream.PageSize]) != [stream.DigestSize]byte(sum) {
			return &WrongPageError{vpid, addr}
		}
	}
	return nil
}

// presentUntil says whether the store has the page at addr, and up to where that holds.
func (s *Store) presentUntil(vpid stream.VPID, addr, end uint64) (here bool, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.presentUntil(vpid, addr, end)
}
