package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/migrate-hpc/migrate/checkpoint/image"
	"github.com/migrate-hpc/migrate/fault"
	"github.com/migrate-hpc/migrate/restore/pages"
	"github.com/migrate-hpc/migrate/transport"
)

// MaxImages bounds CRIU's images of one job, in bytes. They hold no lazy
// memory, but shared memory and the content of private tmpfs mounts.
const MaxImages = 64 << 30

// Incoming is a checkpoint that is being received.
type Incoming struct {
	Images string       // existing empty directory on a tmpfs
	Store  *pages.Store // for the lazy memory
	IODir  string       // existing empty directory for output files
	// Stop is called when a lane has failed: it must make reading the others fail
	// too, and the writers at their other ends. May be nil.
	Stop func()
	// Digests is what the source says of the pages, if it does: one that arrives later
	// can be compared with it.
	Digests pages.Digests
	// Received counts bytes of memory and images as they arrive.
	Received atomic.Int64

	private private
	blocks  blocks
}

// Receive reads all lanes to their ends and then checks that nothing is
// missing: every lazy page that CRIU's pagemaps name must be in the store.
func (in *Incoming) Receive(ctx context.Context, lanes []io.Reader) error {
	var all sync.WaitGroup
	var once sync.Once
	var cause error // the first; what the others fail with follows from Stop
	for i, lane := range lanes {
		all.Go(func() {
			err := in.lane(lane)
			if err == nil {
				return
			}
			once.Do(func() {
				cause = fmt.Errorf("lane %d: %w", i, err)
				if in.Stop != nil {
					in.Stop()
				}
			})
		})
	}
	all.Wait()
	if cause != nil {
		return errors.Join(context.Cause(ctx), cause)
	}
	return in.complete()
}

func (in *Incoming) complete() error {
	regions, err := image.Pagemaps(in.Images)
	if err != nil {
		return err
	}
	vpid, addr, missing, bad := in.Store.Missing(regions)
	if bad {
		return fmt.Errorf("%d pages of process %d from %#x on never arrived", missing, vpid, addr)
	}
	if named, lazy := in.Digests.Pages(), lazyPages(regions); named != 0 && named != lazy {
		return fmt.Errorf("verify memory: the source has said what %d pages hold, of %d", named, lazy)
	}
	if err := in.blocks.complete(in.Store); err != nil {
		return err
	}
	return in.private.finish()
}

func lazyPages(regions map[image.VPID][]image.Region) int64 {
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

func (in *Incoming) lane(r io.Reader) error {
	for {
		s, err := transport.NewStreamReader(r)
		if err != nil {
			return err
		}
		switch s.Kind() {
		case image.KindEnd:
			_, err := s.ReadFrame()
			if err == io.EOF {
				return nil
			}
			return errors.Join(err, errors.New("the stream that ends a lane is not empty"))
		case image.KindImages:
			err = image.Unpack(&counting{s, &in.Received}, in.Images, MaxImages)
		case image.KindFile:
			err = in.file(s)
		case image.KindPages:
			err = in.memory(s)
		case image.KindBlocks:
			err = in.readBlocks(s)
		case image.KindTmpfsPages, image.KindTmpfsNames:
			err = in.tmpfs(s)
		case image.KindDigests:
			err = in.verify(s)
		default:
			err = fmt.Errorf("stream of unknown kind %d", s.Kind())
		}
		if err != nil {
			return err
		}
	}
}

func (in *Incoming) memory(s *transport.StreamReader) error {
	var runs []image.Run
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		runs = runs[:0]
		err = image.EachRun(frame, func(r image.Run) error {
			in.Received.Add(r.Pages * image.PageSize)
			runs = append(runs, r)
			return nil
		})
		if err == nil {
			err = fault.Fail("pages", "received")
		}
		if err == nil {
			err = in.Store.PutBatch(runs)
		}
		if err != nil {
			return err
		}
	}
}

// verify compares memory with what the source says that it is.
func (in *Incoming) verify(s *transport.StreamReader) error {
	head, err := s.ReadFrame()
	if err != nil {
		return fmt.Errorf("verify memory: %w", err)
	}
	seed, err := image.ParseDigestHead(head)
	if err != nil {
		return fmt.Errorf("verify memory: %w", err)
	}
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = image.EachDigests(frame, func(d image.Digests) error { return in.Digests.Check(in.Store, seed, d) })
		}
		if err != nil {
			return fmt.Errorf("verify memory: %w", err)
		}
	}
}

// file puts a piece of an output file where it belongs.
func (in *Incoming) file(s *transport.StreamReader) error {
	head, err := s.ReadFrame()
	if err != nil {
		return fmt.Errorf("output file: %w", err)
	}
	var r image.FileRange
	if err := json.Unmarshal(head, &r); err != nil {
		return fmt.Errorf("output file: %w", err)
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("output file: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(in.IODir, r.Name), os.O_WRONLY|os.O_CREATE, os.FileMode(r.Mode).Perm())
	if err != nil {
		return err
	}
	if err := fillFile(f, r, s); err != nil {
		return errors.Join(fmt.Errorf("output file %s: %w", r.Name, err), f.Close())
	}
	return f.Close()
}

func fillFile(f *os.File, r image.FileRange, s io.Reader) error {
	if err := f.Truncate(r.Offset); err != nil {
		return err
	}
	if _, err := f.Seek(r.Offset, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(f, s); err != nil {
		return err
	}
	if err := f.Chmod(os.FileMode(r.Mode).Perm()); err != nil {
		return err
	}
	if err := f.Chown(int(r.UID), int(r.GID)); err != nil {
		return err
	}
	return f.Sync()
}

type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
