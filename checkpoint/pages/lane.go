package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// batchPages is how many pages are read at once: as much as a core's cache keeps until
// they have been looked at.
const batchPages = 64

// lane sends the chunks of memory that are bound to it. One worker at a time uses it.
type lane struct {
	ledger *ledger
	reader reader
	out    *image.Batch
	seed   uint64 // of digests
	digest image.DigestBatch

	mode  mode
	sink  Sink
	count func(int64)
	round Round

	pid     int      // of the pages that are to be read
	extents []extent // they are
	pages   []slot   // each of them
	data    []byte
	lost    []bool
}

// slot is where a page is entered.
type slot struct {
	slab   *slab
	number uint32 // of the slab
	page   int
}

func newLane(seed uint64, lanes int) (*lane, error) {
	ledger, err := newLedger(seed, lanes)
	if err != nil {
		return nil, err
	}
	data, err := mapMemory(batchPages * image.PageSize)
	if err != nil {
		return nil, err
	}
	return &lane{ledger: ledger, out: image.NewBatch(), data: data, lost: make([]bool, batchPages)}, nil
}

func (l *lane) close() error {
	if err := l.ledger.close(); err != nil {
		return err
	}
	return unix.MunmapPtr(unsafe.Pointer(&l.data[0]), uintptr(len(l.data)))
}

// begin makes the lane ready for a pass.
func (l *lane) begin(mode mode, sink Sink, count func(int64)) {
	if count == nil {
		count = func(int64) {}
	}
	l.mode, l.sink, l.count, l.round = mode, sink, count, Round{}
	l.out.Reset()
	l.digest.Reset()
	l.extents, l.pages = l.extents[:0], l.pages[:0]
}

// work does what it is given until that ends.
func (l *lane) work(ctx context.Context, work <-chan []stretch) error {
	err := l.workOff(ctx, work)
	return errors.Join(err, l.reader.close())
}

func (l *lane) workOff(ctx context.Context, work <-chan []stretch) error {
	for stretches := range work {
		for _, s := range stretches {
			if ctx.Err() != nil {
				return nil
			}
			if err := l.look(s); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := l.read(); err != nil {
		return err
	}
	return l.send()
}

// look picks the pages of a stretch that have to be read.
func (l *lane) look(s stretch) error {
	if s.task.PID != l.pid {
		if err := l.read(); err != nil {
			return err
		}
		l.pid = s.task.PID
	}
	base := s.addr &^ (chunkSize - 1)
	slab, number, err := l.ledger.at(s.task.VPID, base)
	if err != nil {
		return err
	}
	page := int((s.addr - base) / image.PageSize)
	for end := page + s.pages; page < end; page++ {
		if l.settled(slab, page, s.clean) {
			continue
		}
		if l.mode == modeDrop {
			if err := l.hold(slot{slab, number, page}); err != nil {
				return err
			}
			continue
		}
		l.want(slot{slab, number, page})
		if len(l.pages) == batchPages {
			if err := l.read(); err != nil {
				return err
			}
		}
	}
	return nil
}

// settled says that nothing is to be done about a page. clean: by the tracker it has not
// changed since it was read.
func (l *lane) settled(s *slab, page int, clean bool) bool {
	switch l.mode {
	case modeRest, modeDrop:
		return s.seen.has(page)
	case modeWarm:
		return clean && s.read.has(page)
	}
	return false
}

// want adds a page to those that are to be read.
func (l *lane) want(at slot) {
	l.pages = append(l.pages, at)
	addr := at.slab.place(at.page).Addr
	if n := len(l.extents); n > 0 && l.extents[n-1].addr+uint64(l.extents[n-1].size()) == addr {
		l.extents[n-1].pages++
		return
	}
	l.extents = append(l.extents, extent{addr, 1})
}

// read reads the wanted pages and enters them.
func (l *lane) read() error {
	if len(l.pages) == 0 {
		return nil
	}
	start, writing := time.Now(), l.round.Writing
	lost := l.lost[:len(l.pages)]
	if err := l.reader.read(l.pid, l.extents, l.data, lost); err != nil && l.mode.strict() {
		at := l.pages[slices.Index(lost, true)]
		return &ReadError{VPID: at.slab.vpid, PID: l.pid, Addr: at.slab.place(at.page).Addr, Err: err}
	}
	for i, at := range l.pages {
		at.slab.read.drop(at.page)
		if lost[i] {
			continue
		}
		at.slab.read.add(at.page)
		if err := l.enter(at, l.data[i*image.PageSize:][:image.PageSize]); err != nil {
			return err
		}
	}
	size := int64(len(l.pages)) * image.PageSize
	l.round.Looked += size
	l.count(size)
	l.extents, l.pages = l.extents[:0], l.pages[:0]
	l.round.Reading += time.Since(start) - (l.round.Writing - writing)
	return nil
}

// enter does what the mode says with a page that holds data. The sum is taken of the
// bytes that are sent. So if the job writes while they are read, the target still has
// what the ledger says, and the next look finds that the page is another by now.
func (l *lane) enter(at slot, data []byte) error {
	if l.mode == modeVerify {
		return l.attest(at.slab.place(at.page), data)
	}
	s := zeros
	if !isZero(data) {
		s = l.ledger.sum(data)
	}
	if at.slab.sums[at.page] != s {
		l.round.Dirty += image.PageSize
		if l.mode == modeHold {
			return l.hold(at)
		}
		if err := l.add(at, s, data); err != nil {
			return err
		}
	}
	if l.mode != modeWarm {
		at.slab.seen.add(at.page)
	}
	return nil
}

// attest puts the digest of a page into the frame.
func (l *lane) attest(at image.Place, data []byte) error {
	if l.digest.Full() {
		if err := l.send(); err != nil {
			return err
		}
	}
	l.digest.Add(at.VPID, at.Addr, image.PageDigest(l.seed, data))
	return nil
}

// add puts a page into the frame.
func (l *lane) add(at slot, s sum, data []byte) error {
	if err := l.room(); err != nil {
		return err
	}
	to := at.slab.place(at.page)
	if s == zeros {
		l.round.Zero += image.PageSize
		l.out.Zero(to.VPID, to.Addr)
	} else if from, ok := l.ledger.find(s); ok {
		l.round.Duplicate += image.PageSize
		l.out.Copy(to.VPID, to.Addr, from)
	} else {
		l.out.Page(to.VPID, to.Addr, data)
	}
	l.ledger.set(at.number, at.page, s)
	return nil
}

// room makes room in the frame.
func (l *lane) room() error {
	if l.out.Full() {
		return l.send()
	}
	return nil
}

// hold has the target forget its version of a page.
func (l *lane) hold(at slot) error {
	if err := l.room(); err != nil {
		return err
	}
	to := at.slab.place(at.page)
	l.out.Drop(to.VPID, to.Addr)
	l.ledger.set(at.number, at.page, unknown)
	return nil
}

// send writes the frame.
func (l *lane) send() error {
	frame := l.out.Bytes()
	if l.mode == modeVerify {
		frame = l.digest.Bytes()
	}
	if len(frame) == 0 {
		return nil
	}
	start := time.Now()
	if err := l.sink.WriteFrame(frame); err != nil {
		return fmt.Errorf("write %d bytes of page runs: %w", len(frame), err)
	}
	l.round.Writing += time.Since(start)
	l.round.Payload += int64(len(frame))
	l.out.Reset()
	l.digest.Reset()
	return nil
}

// zeroPage is compared with.
var zeroPage [image.PageSize]byte

// isZero looks at a page. Most differ in their first bytes.
func isZero(page []byte) bool {
	return page[0] == 0 && bytes.Equal(page, zeroPage[:])
}
