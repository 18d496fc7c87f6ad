package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// blocks reads one image without the pages that are in the store.
func (in *Receiver) readBlocks(s *stream.Reader) error {
	head, err := s.ReadFrame()
	if err != nil {
		return fmt.Errorf("image in blocks: %w", err)
	}
	var h image.BlocksHead
	if err := json.Unmarshal(head, &h); err != nil {
		return fmt.Errorf("image in blocks: %w", err)
	}
	room, err := tmpfs.Room(in.Images)
	if err != nil {
		return err
	}
	if err := h.Check(room); err != nil {
		return err
	}
	f, err := image.Create(in.Images, h.Name)
	if err != nil {
		return err
	}
	refs, err := in.fillBlocks(f, h, s)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return in.blocks.add(blockImage{f.Name(), refs})
}

func (in *Receiver) fillBlocks(f *os.File, h image.BlocksHead, s *stream.Reader) (refs []image.Ref, err error) {
	if err := f.Truncate(h.Size); err != nil {
		return nil, err
	}
	at := int64(0)
	data := func(offset int64, p []byte) error {
		if offset+int64(len(p)) > h.Size {
			return image.ErrBlocks
		}
		_, err := f.WriteAt(p, offset)
		return err
	}
	ref := func(r image.Ref) error {
		if refs = append(refs, r); len(refs) > image.MaxRefs || r.Offset+r.Size > h.Size {
			return image.ErrBlocks
		}
		return nil
	}
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		in.Received.Add(int64(len(frame)))
		if at, err = image.EachBlock(frame, at, data, ref); err != nil {
			return nil, err
		}
	}
	if at != h.Size {
		return nil, fmt.Errorf("%w: %d bytes of %d", image.ErrBlocks, at, h.Size)
	}
	return refs, nil
}

func (b *blocks) add(r blockImage) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images = append(b.images, r)
	if b.refs += len(r.refs); b.refs > image.MaxRefs {
		return fmt.Errorf("%w: more than %d references", image.ErrBlocks, image.MaxRefs)
	}
	return nil
}

// complete copies the missing parts from the store. The pages that images refer to came first, on
// the lane of images.
func (b *blocks) complete(store *pagestore.Store) error {
	for _, r := range b.images {
		f, err := os.OpenFile(r.path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		err = copyRefs(f, r.refs, store)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(r.path), err)
		}
	}
	b.images = nil
	return nil
}

func copyRefs(f *os.File, refs []image.Ref, store *pagestore.Store) error {
	var all errgroup.Group
	all.SetLimit(runtime.GOMAXPROCS(0))
	buffers := sync.Pool{New: func() any { return new([stream.MaxCopyPages * stream.PageSize]byte) }}
	for _, r := range refs {
		all.Go(func() error {
			buf := buffers.Get().(*[stream.MaxCopyPages * stream.PageSize]byte)
			defer buffers.Put(buf)
			return copyRef(f, r, store, buf[:r.Size])
		})
	}
	return all.Wait()
}

// copyRef compares what it copies with the digest of the source. A wrong page would become a part
// of the job.
func copyRef(f *os.File, r image.Ref, store *pagestore.Store, buf []byte) error {
	if err := store.Read(r.From, buf); err != nil {
		return err
	}
	if sum := xxh3.Hash128(buf); sum != r.Sum {
		return fmt.Errorf("%d pages from %#x of %d on are not those that the source has sent", r.Size/stream.PageSize, r.From.Addr, r.From.VPID)
	}
	if _, err := f.WriteAt(buf, r.Offset); err != nil || r.From.VPID >= stream.FirstShared {
		return err
	}
	// Only its own image refers to the memory of a process. The store's copy would be a
	// second one from here on.
	return store.PutBatch([]stream.Run{{VPID: r.From.VPID, Addr: r.From.Addr, Pages: r.Size / stream.PageSize, Drop: true}})
}
