package restore

import (
	"errors"
	"fmt"
	"io"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/failpoint"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// HandOver closes the store. All further memory goes to sinks, one for each lane. A frame goes
// wholly to the store or wholly to a sink.
func (in *Receiver) HandOver(feeds func() PageSink) error {
	in.handOver.Lock()
	defer in.handOver.Unlock()
	if in.newSink != nil {
		return nil
	}
	in.newSink = feeds
	return in.Store.Close()
}

// laneMemory stores the memory of one lane.
type laneMemory struct {
	receiver *Receiver
	sink     PageSink // nil: none yet
	runs     []stream.Run
}

func (k *laneMemory) readPages(s *stream.Reader) error {
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := k.store(frame); err != nil {
			return err
		}
	}
}

func (k *laneMemory) store(frame []byte) error {
	k.runs = k.runs[:0]
	err := stream.EachRun(frame, func(r stream.Run) error {
		k.receiver.Received.Add(r.Pages * stream.PageSize)
		k.runs = append(k.runs, r)
		return nil
	})
	if err == nil {
		err = failpoint.Fail("pages", "received")
	}
	if err != nil {
		return err
	}
	k.receiver.handOver.RLock()
	defer k.receiver.handOver.RUnlock()
	if k.receiver.newSink == nil {
		return k.receiver.Store.PutBatch(k.runs)
	}
	if k.sink == nil {
		k.sink = k.receiver.newSink()
	}
	return k.sink.Frame(frame)
}

// end returns when all of the lane's memory is stored.
func (k *laneMemory) end() error {
	if k.sink == nil {
		return nil
	}
	err := k.sink.Close()
	k.sink = nil
	return err
}

func (k *laneMemory) abort() {
	if k.sink != nil {
		k.sink.Abort()
	}
}

// verify compares the lane's memory with the digests of the source. No page leaves the store
// before all lanes have ended, so it can be read in either process.
func (k *laneMemory) verify(s *stream.Reader) error {
	head, err := s.ReadFrame()
	if err != nil {
		return fmt.Errorf("verify memory: %w", err)
	}
	seed, err := stream.ParseDigestHead(head)
	if err != nil {
		return fmt.Errorf("verify memory: %w", err)
	}
	if err := k.end(); err != nil {
		return err
	}
	k.receiver.handOver.RLock()
	defer k.receiver.handOver.RUnlock()
	store := k.receiver.Store
	if k.receiver.newSink != nil {
		if store, err = store.View(); err != nil {
			return fmt.Errorf("verify memory: %w", err)
		}
		defer store.Close()
	}
	if err := k.compare(s, store, seed); err != nil {
		return fmt.Errorf("verify memory: %w", err)
	}
	return nil
}

func (k *laneMemory) compare(s *stream.Reader, store *pagestore.Store, seed uint64) error {
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = stream.EachDigests(frame, func(d stream.Digests) error { return k.receiver.Digests.Check(store, seed, d) })
		}
		if err != nil {
			return err
		}
	}
}

// checkAllDigests fails if the source has sent digests, but not of every page.
func (in *Receiver) checkAllDigests() error {
	named := in.Digests.Pages()
	if named == 0 {
		return nil
	}
	regions, err := image.Pagemaps(in.Images)
	if err != nil {
		return errors.Join(errors.New("verify memory"), err)
	}
	if lazy := lazyPages(regions); named != lazy {
		return fmt.Errorf("verify memory: the source has said what %d pages hold, of %d", named, lazy)
	}
	return nil
}

func lazyPages(regions map[stream.VPID][]image.Region) int64 {
	n := int64(0)
	for _, list := range regions {
		for _, r := range list {
			if r.Lazy {
				n += r.Pages
			}
		}
	}
	return n
}
