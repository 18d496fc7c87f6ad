package pagestore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// PutBatch applies the runs of a frame in their order. It joins consecutive runs of data and of
// zeros: one write for the new pages and one for the log. With many small runs each would
// otherwise cost two system calls.
func (s *Store) PutBatch(runs []stream.Run) error {
	for _, r := range runs {
		if err := checkRange(r.VPID, r.Addr, r.Pages); err != nil {
			return fmt.Errorf("put %d runs: %w", len(runs), err)
		}
	}
	for len(runs) > 0 {
		n := together(runs)
		var err error
		if n > 0 {
			err = s.putTogether(runs[:n])
		} else {
			n, err = 1, s.putOne(runs[0])
		}
		if err != nil {
			return fmt.Errorf("put %d runs: %w", len(runs), err)
		}
		runs = runs[n:]
	}
	return nil
}

// together returns how many runs can be put at once: none names a page of another.
func together(runs []stream.Run) int {
	n := 0
	for n < len(runs) && !runs[n].Copy && !runs[n].Drop {
		n++
	}
	if inOrder(runs[:n]) {
		return n
	}
	sorted := slices.Clone(runs[:n])
	slices.SortFunc(sorted, func(a, b stream.Run) int {
		return cmp.Or(cmp.Compare(a.VPID, b.VPID), cmp.Compare(a.Addr, b.Addr))
	})
	if inOrder(sorted) {
		return n
	}
	return min(n, 1)
}

// inOrder says that each run lies behind the one before.
func inOrder(runs []stream.Run) bool {
	for i := 1; i < len(runs); i++ {
		a, b := runs[i-1], runs[i]
		if b.VPID < a.VPID || b.VPID == a.VPID && b.Addr < a.Addr+uint64(a.Pages)*stream.PageSize {
			return false
		}
	}
	return true
}

// putOne copies or forgets pages.
func (s *Store) putOne(r stream.Run) error {
	if r.Drop {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.drop(r.VPID, s.index.of(r.VPID), r.Addr, r.Addr+uint64(r.Pages)*stream.PageSize)
	}
	data := make([]byte, min(r.Pages, stream.MaxCopyPages)*stream.PageSize)
	if err := s.Read(r.From, data); err != nil {
		return fmt.Errorf("copy %d pages to %#x of task %d: %w", r.Pages, r.Addr, r.VPID, err)
	}
	return s.Put(r.VPID, r.Addr, data)
}

// Read fills data, whole pages, with what the store has of those at from. A page that
// it lacks is ErrMissing.
func (s *Store) Read(from stream.Place, data []byte) error {
	s.mu.Lock()
	found := s.index.of(from.VPID).Within(from.Addr, from.Addr+uint64(len(data)))
	s.mu.Unlock()
	at := from.Addr
	for _, sp := range found {
		if sp.Start != at {
			break
		}
		part := data[at-from.Addr:][:sp.Bytes()]
		at = sp.End
		if sp.Zero() {
			clear(part)
		} else if _, err := s.data.ReadAt(part, sp.Off); err != nil {
			return err
		}
	}
	if end := from.Addr + uint64(len(data)); at != end {
		return fmt.Errorf("%w: %d bytes at %#x of task %d", ErrMissing, end-at, at, from.VPID)
	}
	return nil
}

// arrival is what a batch brings: where its pages go and what the index learns.
type arrival struct {
	fresh [][]byte // one after the other from off on
	off   int64
	size  int64
	old   []place // in the place of an earlier version
	news  []news
}

// news is a span that the index does not have.
type news struct {
	vpid stream.VPID
	span pageset.Span
}

func (s *Store) putTogether(runs []stream.Run) error {
	a := s.arrive(runs)
	if err := s.data.writePieces(a.fresh, a.off); err != nil {
		return err
	}
	if err := s.data.overwrite(a.old); err != nil {
		return err
	}
	return s.publishAll(a.news)
}

// arrive finds a place for the pages. Pages that the store has stay where they are, new ones go to
// the end.
func (s *Store) arrive(runs []stream.Run) (a arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range runs {
		if r.Zero {
			sp := pageset.Span{Start: r.Addr, End: r.Addr + uint64(r.Pages)*stream.PageSize, Off: pageset.ZeroOff}
			a.news = append(a.news, news{r.VPID, sp})
			continue
		}
		done := int64(0)
		for _, sp := range s.index.of(r.VPID).Within(r.Addr, r.Addr+uint64(len(r.Data))) {
			if sp.Zero() {
				continue
			}
			from := int64(sp.Start - r.Addr)
			a.add(r, done, from)
			done = from + sp.Bytes()
			a.old = append(a.old, place{r.Data[from:done], sp.Off})
		}
		a.add(r, done, int64(len(r.Data)))
	}
	if a.size > 0 {
		a.off = s.blocks.alloc(a.size)
	}
	for i := range a.news {
		if sp := &a.news[i].span; !sp.Zero() {
			sp.Off += a.off
		}
	}
	return a
}

// add appends a part of the run, in bytes, to what is fresh. Offsets begin at 0 yet.
func (a *arrival) add(r stream.Run, from, to int64) {
	if from == to {
		return
	}
	sp := pageset.Span{Start: r.Addr + uint64(from), End: r.Addr + uint64(to), Off: a.size}
	a.news = append(a.news, news{r.VPID, sp})
	a.fresh = append(a.fresh, r.Data[from:to])
	a.size += to - from
}

// publishAll makes spans known, now that their data is in place.
func (s *Store) publishAll(all []news) error {
	if len(all) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	records := make([]byte, 0, len(all)*recordSize)
	for _, n := range all {
		kind := uint32(recordData)
		if n.span.Zero() {
			kind = recordZero
		}
		records = appendRecord(records, kind, n.vpid, n.span)
		if err := s.replace(n.vpid, n.span); err != nil {
			return err
		}
	}
	return s.log.append(records)
}
