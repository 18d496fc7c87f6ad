package scan

import (
	"fmt"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/stream"
)

// lane sends the chunks of memory that are bound to it. Its workers share it.
type lane struct {
	mu      sync.Mutex      // of the worker that uses what follows
	clock   *osthread.Clock // of that worker
	working int             // workers that have not done their work
	ledger  *ledger
	out     *stream.Batch
	seed    uint64 // of digests
	digest  stream.DigestBatch

	mode  mode
	sink  Sink
	round Round
}

// slot is the place of a page in the ledger.
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
	return &lane{ledger: ledger, out: stream.NewBatch()}, nil
}

// begin prepares the lane for a pass.
func (l *lane) begin(mode mode, sink Sink, workers int) {
	l.mode, l.sink, l.working, l.round = mode, sink, workers, Round{}
	l.out.Reset()
	l.digest.Reset()
}

// end is called by each worker at the end of its work. The last one sends what is left.
func (l *lane) end(clock *osthread.Clock) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = clock
	l.working--
	if l.working > 0 {
		return nil
	}
	return l.send()
}

// wait counts how long a worker had no processor.
func (l *lane) wait(waited time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round.Waiting += waited
}

// slab is the slab for the pages of a chunk.
func (l *lane) slab(vpid stream.VPID, base uint64) (*slab, uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.slabFor(vpid, base)
}

// done are the pages of a slab that need no look, nil for none. With clean, the tracker says that
// the pages have not changed since they were read.
func (l *lane) done(s *slab, clean bool) *pageSet {
	switch {
	case l.mode == modeRest || l.mode == modeDrop:
		return &s.seen
	case l.mode == modePreCopy && clean:
		return &s.read
	}
	return nil
}

// recordAll records what a worker has read.
func (l *lane) recordAll(clock *osthread.Clock, b *batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = clock
	start, writing := l.clock.Now(), l.round.Writing
	i := 0
	for _, p := range b.ranges {
		for page := p.page; page < p.page+p.pages; page++ {
			if err := l.record(slot{p.slab, p.number, page}, b, i); err != nil {
				return err
			}
			i++
		}
	}
	l.round.Compared += b.size()
	l.round.Reading += b.took + l.clock.Now() - start - (l.round.Writing - writing)
	return nil
}

// record does what the mode says with a page of a batch. The sum is taken of the bytes that are
// sent. The job may write while they are read. The target then still has what the ledger says, and
// the next look finds a different page.
func (l *lane) record(at slot, b *batch, i int) error {
	if b.lost[i] {
		at.slab.read.drop(at.page)
		return nil
	}
	at.slab.read.add(at.page)
	if l.mode == modeVerify {
		return l.addDigest(at.slab.place(at.page), b.page(i))
	}
	if at.slab.sums[at.page] != b.sums[i] {
		l.round.Dirty += stream.PageSize
		if l.mode == modePostCopy {
			return l.dropPage(at)
		}
		if err := l.add(at, b.sums[i], b.page(i)); err != nil {
			return err
		}
	}
	if l.mode != modePreCopy {
		at.slab.seen.add(at.page)
	}
	return nil
}

// addDigest puts the digest of a page into the frame.
func (l *lane) addDigest(at stream.Place, data []byte) error {
	if l.digest.Full() {
		if err := l.send(); err != nil {
			return err
		}
	}
	l.digest.Add(at.VPID, at.Addr, stream.PageDigest(l.seed, data))
	return nil
}

// add puts a page into the frame.
func (l *lane) add(at slot, s sum, data []byte) error {
	if err := l.makeRoom(); err != nil {
		return err
	}
	to := at.slab.place(at.page)
	if s == zeros {
		l.round.Zero += stream.PageSize
		l.out.Zero(to.VPID, to.Addr)
	} else if from, ok := l.ledger.find(s); ok {
		l.round.Duplicate += stream.PageSize
		l.out.Copy(to.VPID, to.Addr, from)
	} else {
		l.out.Page(to.VPID, to.Addr, data)
	}
	l.ledger.set(at.number, at.page, s)
	return nil
}

// makeRoom makes room in the frame.
func (l *lane) makeRoom() error {
	if l.out.Full() {
		return l.send()
	}
	return nil
}

// dropPage has the target forget its version of a page.
func (l *lane) dropPage(at slot) error {
	if err := l.makeRoom(); err != nil {
		return err
	}
	to := at.slab.place(at.page)
	l.out.Drop(to.VPID, to.Addr)
	l.ledger.set(at.number, at.page, unknown)
	return nil
}

// dropPages has the target forget its versions of some pages.
func (l *lane) dropPages(clock *osthread.Clock, p slabRange) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = clock
	for page := p.page; page < p.page+p.pages; page++ {
		if err := l.dropPage(slot{p.slab, p.number, page}); err != nil {
			return err
		}
	}
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
	start := l.clock.Now()
	if err := l.sink.WriteFrame(frame); err != nil {
		return fmt.Errorf("write %d bytes of page runs: %w", len(frame), err)
	}
	l.round.Writing += l.clock.Now() - start
	l.round.Payload += int64(len(frame))
	l.out.Reset()
	l.digest.Reset()
	return nil
}
