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

// PageSink takes the pages of one lane, in order. Close returns nil when they are kept;
// Abort gives them up.
type PageSink interface {
	Frame(batch []byte) error
	Close() error
	Abort()
}

// HandOver closes the store and has all further memory go to feeds, one for each lane.
// Every frame goes either way, wholly: what has arrived before is in the store.
func (in *Receiver) HandOver(feeds func() PageSink) error {
	in.owner.Lock()
	defer in.owner.Unlock()
	if in.feeds != nil {
		return nil
	}
	in.feeds = feeds
	return in.Store.Close()
}

// keeping is the memory of one lane.
type keeping struct {
	in   *Receiver
	feed PageSink // nil: none yet
	runs []stream.Run
}

func (k *keeping) memory(s *stream.Reader) error {
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := k.keep(frame); err != nil {
			return err
		}
	}
}

func (k *keeping) keep(frame []byte) error {
	k.runs = k.runs[:0]
	err := stream.EachRun(frame, func(r stream.Run) error {
		k.in.Received.Add(r.Pages * stream.PageSize)
		k.runs = append(k.runs, r)
		return nil
	})
	if err == nil {
		err = failpoint.Fail("pages", "received")
	}
	if err != nil {
		return err
	}
	k.in.owner.RLock()
	defer k.in.owner.RUnlock()
	if k.in.feeds == nil {
		return k.in.Store.PutBatch(k.runs)
	}
	if k.feed == nil {
		k.feed = k.in.feeds()
	}
	return k.feed.Frame(frame)
}

// end returns when all of the lane's memory has been kept.
func (k *keeping) end() error {
	if k.feed == nil {
		return nil
	}
	err := k.feed.Close()
	k.feed = nil
	return err
}

func (k *keeping) abort() {
	if k.feed != nil {
		k.feed.Abort()
	}
}

// verify compares the lane's memory with what the source says that it is. Nobody gives
// a page away before all lanes have ended, so whoever has the store, it can be read.
func (k *keeping) verify(s *stream.Reader) error {
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
	k.in.owner.RLock()
	defer k.in.owner.RUnlock()
	store := k.in.Store
	if k.in.feeds != nil {
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

func (k *keeping) compare(s *stream.Reader, store *pagestore.Store, seed uint64) error {
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = stream.EachDigests(frame, func(d stream.Digests) error { return k.in.Digests.Check(store, seed, d) })
		}
		if err != nil {
			return err
		}
	}
}

// attested sees to it that the source has said of every page what it holds, if of any.
func (in *Receiver) attested() error {
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
