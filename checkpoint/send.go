package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/failpoint"
	"github.com/migrate-hpc/migrate/stream"
)

// Sent counts what went over the lanes after the freeze.
type Sent struct {
	Images int64      // bytes of CRIU's images and of output
	Scan   scan.Round // of the frozen memory, during the dump
	Rest   scan.Round // after it
	Shared scan.Round // of files of the job's own
}

// Send sends the dumped job. The first lane carries images and the growth of the output. The
// others carry the memory that the scan has left over, at the same time. With one lane, memory
// follows. Send ends each lane, also one that carried nothing.
func (s *Source) Send(ctx context.Context, lanes []io.Writer) (Sent, error) {
	var sent Sent
	regions, err := image.Pagemaps(s.Images())
	if err != nil {
		return sent, err
	}
	m, err := s.memoryOn(lanes)
	if err != nil {
		return sent, err
	}
	refer, err := s.imagesReferToPages()
	if err != nil {
		return sent, err
	}
	all, ctx := errgroup.WithContext(ctx)
	if m.shared || refer { // to memory on any lane
		all.SetLimit(1)
		if sent.Scan, err = s.awaitScan(ctx); err != nil {
			return sent, err
		}
	}
	all.Go(func() (err error) {
		if sent.Shared, err = s.awaitLastRound(ctx, lanes[0]); err == nil {
			err = s.resources().send(lanes[0])
		}
		if err == nil {
			sent.Images, err = s.sendImages(ctx, m, lanes, refer)
		}
		if err == nil && s.OnImagesSent != nil {
			s.OnImagesSent()
		}
		return err
	})
	all.Go(func() (err error) {
		if sent.Scan, err = s.awaitScan(ctx); err == nil {
			sent.Rest, err = s.sendRest(ctx, m, regions)
		}
		return err
	})
	if err := all.Wait(); err != nil {
		return sent, err
	}
	failpoint.Point("pages", "sent")
	return sent, endLanes(lanes)
}

// sendRest sends the lazy memory that the target still lacks, by CRIU's pagemaps.
func (s *Source) sendRest(ctx context.Context, m *memory, regions map[stream.VPID][]image.Region) (scan.Round, error) {
	tasks, err := s.tasks()
	if err != nil {
		return scan.Round{}, err
	}
	round, err := s.sendRemaining(ctx, m, tasks, regions)
	if err != nil {
		return round, err
	}
	if err := m.end(); err != nil || !s.Verify {
		return round, err
	}
	if err := m.sendDigests(ctx, tasks, regions); err != nil {
		return round, fmt.Errorf("verify memory: %w", err)
	}
	return round, nil
}

func (s *Source) sendRemaining(ctx context.Context, m *memory, tasks []scan.Task, regions map[stream.VPID][]image.Region) (scan.Round, error) {
	if s.pullsAll(m) {
		return scan.Round{}, nil
	}
	areas, err := image.RestartAreas(s.Images())
	if err != nil {
		return scan.Round{}, err
	}
	m.pages.Recheck(areas)
	return m.pass(func(sinks []scan.Sink) (scan.Round, error) { return m.pages.Rest(ctx, tasks, regions, sinks) })
}

// imagesReferToPages says that the images hold much memory of processes. Then they refer to pages
// that the target has.
func (s *Source) imagesReferToPages() (bool, error) {
	if s.Eager {
		return true, nil
	}
	size, err := image.OwnedPages(s.Images())
	return size > maxInlinePages, err
}

// maxInlinePages is more than the stacks and locked memory of most jobs.
const maxInlinePages = 16 << 20

func (s *Source) sendImages(ctx context.Context, m *memory, lanes []io.Writer, refer bool) (int64, error) {
	out := stream.NewWriter(lanes[0], stream.KindImages)
	known := s.resources().pageFinder(m, refer)
	leave := image.HoldsMemory
	if known == nil {
		leave = nil
	}
	if err := errors.Join(image.Pack(s.Images(), out, leave), out.Close()); err != nil {
		return 0, fmt.Errorf("send images: %w", err)
	}
	blocks, err := s.sendBlocks(lanes[0], known)
	if err != nil {
		return 0, fmt.Errorf("send images: %w", err)
	}
	failpoint.Point("images", "sent")
	n, err := s.Output(ctx, lanes)
	if err != nil {
		return n, err
	}
	n += out.Stats().Payload + blocks
	if refer {
		return n, nil // ready when all lanes have ended: the images need them
	}
	return n, stream.NewWriter(lanes[0], stream.KindReady).Close()
}

// sendBlocks sends the images that hold memory of which the target may have a part.
func (s *Source) sendBlocks(lane io.Writer, known image.Finder) (n int64, err error) {
	if known == nil {
		return 0, nil
	}
	entries, err := os.ReadDir(s.Images())
	if err != nil {
		return 0, err
	}
	owners, err := image.Owners(s.Images())
	if err != nil {
		return 0, err
	}
	refs := image.MaxRefs
	for _, e := range entries {
		if !image.HoldsMemory(e) {
			continue
		}
		out := stream.NewWriter(lane, stream.KindBlocks)
		if err := errors.Join(image.PackBlocks(s.Images(), e.Name(), owners[e.Name()], known, &refs, out), out.Close()); err != nil {
			return n, err
		}
		n += out.Stats().Payload
	}
	return n, nil
}

func endLanes(lanes []io.Writer) error {
	return inParallel(len(lanes), func(i int) error {
		return stream.NewWriter(lanes[i], stream.KindEnd).Close()
	})
}
