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
	refer, err := imagesReferToPages(s.Images(), s.Eager)
	if err != nil {
		return sent, err
	}
	all, ctx := errgroup.WithContext(ctx)
	if m.shared || refer { // to memory on any lane
		all.SetLimit(1)
		if sent.Scan, err = m.frozen.await(ctx); err != nil {
			return sent, err
		}
	}
	all.Go(func() (err error) {
		if sent.Shared, err = s.resources().awaitLastRound(ctx, lanes[0]); err == nil {
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
		if sent.Scan, err = m.frozen.await(ctx); err == nil {
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
	round, err := m.sendRemaining(ctx, s.Images(), tasks, regions)
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

// sendRemaining sends what the frozen memory's scan has left over, and what CRIU has touched since.
func (m *memory) sendRemaining(ctx context.Context, images string, tasks []scan.Task, regions map[stream.VPID][]image.Region) (scan.Round, error) {
	if m.pullsAll() {
		return scan.Round{}, nil
	}
	areas, err := image.RestartAreas(images)
	if err != nil {
		return scan.Round{}, err
	}
	m.pages.Recheck(areas)
	return m.pass(func(sinks []scan.Sink) (scan.Round, error) { return m.pages.Rest(ctx, tasks, regions, sinks) })
}

// imagesReferToPages says that the images hold much memory of processes. Then they refer to pages
// that the target has.
func imagesReferToPages(images string, eager bool) (bool, error) {
	if eager {
		return true, nil
	}
	size, err := image.OwnedPages(images)
	return size > maxInlinePages, err
}

// maxInlinePages is more than the stacks and locked memory of most jobs.
const maxInlinePages = 16 << 20

// sendImages sends the images and the growth of the output, and says that the job can be restored.
func (s *Source) sendImages(ctx context.Context, m *memory, lanes []io.Writer, refer bool) (int64, error) {
	sent, err := sendImages(lanes[0], s.Images(), s.resources().pageFinder(m, refer))
	if err != nil {
		return 0, fmt.Errorf("send images: %w", err)
	}
	failpoint.Point("images", "sent")
	n, err := s.Output(ctx, lanes)
	if err != nil {
		return n, err
	}
	n += sent
	if refer {
		return n, nil // ready when all lanes have ended: the images need them
	}
	return n, stream.NewWriter(lanes[0], stream.KindReady).Close()
}

// sendImages sends a directory of images. Pages that known finds are referred to.
func sendImages(lane io.Writer, dir string, known image.Finder) (int64, error) {
	out := stream.NewWriter(lane, stream.KindImages)
	leave := image.HoldsMemory
	if known == nil {
		leave = nil
	}
	if err := errors.Join(image.Pack(dir, out, leave), out.Close()); err != nil {
		return 0, err
	}
	blocks, err := sendBlocks(lane, dir, known)
	return out.Stats().Payload + blocks, err
}

// sendBlocks sends the images that hold memory of which the target may have a part.
func sendBlocks(lane io.Writer, dir string, known image.Finder) (n int64, err error) {
	if known == nil {
		return 0, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	owners, err := image.Owners(dir)
	if err != nil {
		return 0, err
	}
	refs := image.MaxRefs
	for _, e := range entries {
		if !image.HoldsMemory(e) {
			continue
		}
		out := stream.NewWriter(lane, stream.KindBlocks)
		if err := errors.Join(image.PackBlocks(dir, e.Name(), owners[e.Name()], known, &refs, out), out.Close()); err != nil {
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
