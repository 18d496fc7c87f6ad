package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/migrate-hpc/migrate/checkpoint/image"
	"github.com/migrate-hpc/migrate/checkpoint/pages"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/transport"
)

// Sent counts what went over the lanes.
type Sent struct {
	Images int64 // bytes of CRIU's images and of output
	Pages  pages.Stats
}

// Send sends the dumped job: images first, then what the output has grown by,
// then the lazy memory on all lanes at once. Each lane is ended, also the ones
// that got nothing.
func (s *Source) Send(ctx context.Context, lanes []io.Writer) (Sent, error) {
	var sent Sent
	regions, err := image.Pagemaps(s.Images())
	if err != nil {
		return sent, err
	}
	tasks, err := s.tasks(regions)
	if err != nil {
		return sent, err
	}
	if sent.Images, err = s.sendImages(ctx, lanes); err != nil {
		return sent, err
	}
	sent.Pages, err = s.sendPages(ctx, tasks, regions, lanes)
	if err != nil {
		return sent, err
	}
	return sent, endLanes(lanes)
}

func (s *Source) sendImages(ctx context.Context, lanes []io.Writer) (int64, error) {
	out := transport.NewStreamWriter(lanes[0], image.KindImages)
	if err := image.Pack(s.Images(), out); err != nil {
		return 0, fmt.Errorf("send images: %w", err)
	}
	if err := out.Close(); err != nil {
		return 0, fmt.Errorf("send images: %w", err)
	}
	n, err := s.Output(ctx, lanes)
	return n + out.Stats().Payload, err
}

// tasks finds the process behind each pagemap.
func (s *Source) tasks(regions map[image.VPID][]image.Region) (map[image.VPID]int, error) {
	entries, err := pidmap.InNamespace(s.Init)
	if err != nil {
		return nil, err
	}
	tasks := map[image.VPID]int{}
	for _, e := range entries {
		if _, ok := regions[image.VPID(e.Job)]; ok {
			tasks[image.VPID(e.Job)] = e.Host
		}
	}
	return tasks, nil
}

func (s *Source) sendPages(ctx context.Context, tasks map[image.VPID]int, regions map[image.VPID][]image.Region, lanes []io.Writer) (pages.Stats, error) {
	streams := make([]*transport.StreamWriter, len(lanes))
	sinks := make([]pages.Sink, len(lanes))
	for i, lane := range lanes {
		streams[i] = transport.NewStreamWriter(lane, image.KindPages)
		sinks[i] = streams[i]
	}
	count := s.Count
	if count == nil {
		count = func(int64) {}
	}
	stats, err := pages.Send(ctx, tasks, regions, sinks, count)
	if err != nil {
		return stats, fmt.Errorf("send memory: %w", err)
	}
	return stats, inParallel(len(streams), func(i int) error { return streams[i].Close() })
}

func endLanes(lanes []io.Writer) error {
	return inParallel(len(lanes), func(i int) error {
		return transport.NewStreamWriter(lanes[i], image.KindEnd).Close()
	})
}

func inParallel(n int, do func(int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
