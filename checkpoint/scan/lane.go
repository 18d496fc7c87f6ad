package scan

import (
	"fmt"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/stream"
)

// lane sends the chunks of memory that are bound to it. Its workers take turns.
type lane struct {
	turn    sync.Mutex      // of the worker that uses what follows
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
	return &lane{ledger: ledger, out: stream.NewBatch()}, nil
}

// begin makes the lane ready for a pass.
func (l *lane) begin(mode mode, sink Sink, workers int) {
	l.mode, l.sink, l.working, l.round = mode, sink, workers, Round{}
	l.out.Reset()
	l.digest.Reset()
}

// end is called by each worker that has done its work. The last one sends what is left.
func (l *lane) end(clock *osthread.Clock) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.clock = clock
	l.working--
	if l.working > 0 {
		return nil
	}
	return l.send()
}

// wait counts how long a worker had no processor.
func (l *lane) wait(waited time.Duration) {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.round.Waiting += waited
}

// slab is where the pages of a chunk are entered.
func (l *lane) slab(vpid stream.VPID, base uint64) (*slab, uint32, error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	return l.ledger.at(vpid, base)
}

// settled are the pages of a slab about which nothing is to be done, if there are any.
// clean: by the tracker the pages that are looked at have not changed since they were read.
func (l *lane) settled(s *slab, clean bool) *pageSet {
	switch {
	case l.mode == modeRest || l.mode == modeDrop:
		return &s.seen
	case l.mode == modeWarm && clean:
		return &s.read
	}
	return nil
}

// enterAll enters what a worker has read.
func (l *lane) enterAll(clock *osthread.Clock, b *batch) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.clock = clock
	start, writing := l.clock.Now(), l.round.Writing
	i := 0
	for _, p := range b.pieces {
		for page := p.page; page < p.page+p.pages; page++ {
			if err := l.enter(slot{p.slab, p.number, page}, b, i); err != nil {
				return err
			}
			i++
		}
	}
	l.round.Compared += b.size()
	l.round.Reading += b.took + l.clock.Now() - start - (l.round.Writing - writing)
	return nil
}

// enter does what the mode says with a page of a batch. The sum is taken of the
// bytes that are sent. So if the job writes while they are read, the target still has
// what the ledger says, and the next look finds that the page is another by now.
func (l *lane) enter(at slot, b *batch, i int) error {
	if b.lost[i] {
		at.slab.read.drop(at.page)
		return nil
	}
	at.slab.read.add(at.page)
	if l.mode == modeVerify {
		return l.attest(at.slab.place(at.page), b.page(i))
	}
	if at.slab.sums[at.page] != b.sums[i] {
		l.round.Dirty += stream.PageSize
		if l.mode == modeHold {
			return l.hold(at)
		}
		if err := l.add(at, b.sums[i], b.page(i)); err != nil {
			return err
		}
	}
	if l.mode != modeWarm {
		at.slab.seen.add(at.page)
	}
	return nil
}

// attest puts the digest of a page into the frame.
func (l *lane) attest(at stream.Place, data []byte) error {
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
	if err := l.room(); err != nil {
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

// holdAll has the target forget its versions of some pages.
func (l *lane) holdAll(clock *osthread.Clock, p piece) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.clock = clock
	for page := p.page; page < p.page+p.pages; page++ {
		if err := l.hold(slot{p.slab, p.number, page}); err != nil {
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
