package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

type pageAt struct {
	vpid image.VPID
	addr uint64
}

// collector is what arrives at the other end, checked against what children hold.
type collector struct {
	mu       sync.Mutex
	children map[image.VPID]process
	seen     map[pageAt]bool
	zeros    int64
	bytes    int64
	frames   int64
	want     [image.PageSize]byte
}

func newCollector(children map[image.VPID]process) *collector {
	return &collector{children: children, seen: map[pageAt]bool{}}
}

func (c *collector) WriteFrame(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(frame) > maxFrame {
		return fmt.Errorf("a frame of %d bytes", len(frame))
	}
	c.frames++
	c.bytes += int64(len(frame))
	return image.EachRun(frame, c.run)
}

func (c *collector) run(r image.Run) error {
	child, ok := c.children[r.VPID]
	if !ok {
		return fmt.Errorf("run of process %d, which was not asked for", r.VPID)
	}
	for i := range r.Pages {
		at := pageAt{r.VPID, r.Addr + uint64(i)*image.PageSize}
		if c.seen[at] {
			return fmt.Errorf("page %#x of %d came twice", at.addr, at.vpid)
		}
		c.seen[at] = true
		number := int((at.addr - child.addr) / image.PageSize)
		if r.Zero != (number%zeroEvery == 0) {
			return fmt.Errorf("page %d of %d came as zero: %v", number, r.VPID, r.Zero)
		}
		if r.Zero {
			c.zeros++
			continue
		}
		fillPage(c.want[:], number)
		if !bytes.Equal(r.Data[i*image.PageSize:][:image.PageSize], c.want[:]) {
			return fmt.Errorf("page %d of %d is not what the process holds", number, r.VPID)
		}
	}
	return nil
}

// check says that exactly these regions have come, and that the statistics are true.
func (c *collector) check(t *testing.T, regions map[image.VPID][]image.Region, stats Stats, progress int64) {
	t.Helper()
	var pages int64
	for vpid, list := range regions {
		for _, r := range list {
			if !r.Lazy {
				continue
			}
			pages += r.Pages
			for i := range r.Pages {
				if addr := r.Addr + uint64(i)*image.PageSize; !c.seen[pageAt{vpid, addr}] {
					t.Fatalf("page %#x of %d is missing", addr, vpid)
				}
			}
		}
	}
	want := Stats{Pages: pages, ZeroPages: c.zeros, Bytes: pages * image.PageSize, FrameSize: c.bytes, Frames: c.frames}
	if int64(len(c.seen)) != pages || stats != want {
		t.Errorf("%d pages came, %d were asked for; stats %+v, want %+v", len(c.seen), pages, stats, want)
	}
	if progress != want.Bytes {
		t.Errorf("progress says %d bytes, want %d", progress, want.Bytes)
	}
}

// sendAll sends the regions of the children over n streams and checks what arrives.
func sendAll(t *testing.T, children map[image.VPID]process, regions map[image.VPID][]image.Region, n int) Stats {
	t.Helper()
	c := newCollector(children)
	sinks := make([]Sink, n)
	for i := range sinks {
		sinks[i] = c
	}
	var progress atomic.Int64
	stats, err := Send(t.Context(), pidsOf(children), regions, sinks, func(n int64) { progress.Add(n) })
	if err != nil {
		t.Fatal(err)
	}
	c.check(t, regions, stats, progress.Load())
	return stats
}

func pidsOf(children map[image.VPID]process) map[image.VPID]int {
	tasks := map[image.VPID]int{}
	for vpid, p := range children {
		tasks[vpid] = p.pid
	}
	return tasks
}

func TestTwoHundredThousandPagesArriveOnceEach(t *testing.T) {
	p := launch(t, "plain", 200_000)
	regions := map[image.VPID][]image.Region{7: {p.region()}}
	stats := sendAll(t, map[image.VPID]process{7: p}, regions, 3)
	if want := (p.pages + zeroEvery - 1) / zeroEvery; stats.ZeroPages != want {
		t.Errorf("%d zero pages, want %d", stats.ZeroPages, want)
	}
	if most := (stats.Pages - stats.ZeroPages) * (image.PageSize + 64); stats.FrameSize > most {
		t.Errorf("the frames take %d bytes, more than %d: zero pages were sent", stats.FrameSize, most)
	}
}

func TestScatteredPagesOfSeveralProcessesShareFrames(t *testing.T) {
	children := map[image.VPID]process{1: launch(t, "plain", 3000), 9: launch(t, "plain", 2000)}
	regions := map[image.VPID][]image.Region{}
	for vpid, p := range children {
		for i := int64(0); i+3 <= p.pages; i += 3 {
			r := image.Region{Addr: p.addr + uint64(i)*image.PageSize, Pages: 1 + i%2, Lazy: i%5 != 0}
			regions[vpid] = append(regions[vpid], r)
		}
	}
	stats := sendAll(t, children, regions, 2)
	if least := stats.Bytes/(maxFrame-maxFrame/8) + 2; stats.Frames > least {
		t.Errorf("%d frames for %d pages, want at most %d", stats.Frames, stats.Pages, least)
	}
}

func TestOnlyLazyRegionsAreSent(t *testing.T) {
	p := launch(t, "plain", 10)
	present := p.region()
	present.Lazy, present.Present = false, true
	stats := sendAll(t, map[image.VPID]process{1: p}, map[image.VPID][]image.Region{1: {present}, 2: {present}}, 1)
	if stats.Frames != 0 {
		t.Errorf("%+v was sent for memory that is in the images", stats)
	}
}

func TestMemoryThatTheJobMayNotReadIsReadAllTheSame(t *testing.T) {
	for _, role := range []string{"hidden", "hidden page"} {
		p := launch(t, role, 600)
		sendAll(t, map[image.VPID]process{1: p}, map[image.VPID][]image.Region{1: {p.region()}}, 2)
	}
}

func TestAnUnmappedPageIsNamed(t *testing.T) {
	p := launch(t, "hole", 600)
	children := map[image.VPID]process{5: p}
	_, err := Send(t.Context(), pidsOf(children), map[image.VPID][]image.Region{5: {p.region()}},
		[]Sink{newCollector(children)}, nil)
	var read *ReadError
	if !errors.As(err, &read) || !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EFAULT) {
		t.Fatalf("the error is %v, want a ReadError about the hole", err)
	}
	if want := p.addr + 300*image.PageSize; read.Addr != want || read.VPID != 5 || read.PID != p.pid {
		t.Errorf("the error is %v, want process 5 at %#x", read, want)
	}
}

func TestAProcessThatEndedIsAnError(t *testing.T) {
	p := launch(t, "plain", 300)
	regions := map[image.VPID][]image.Region{1: {p.region()}}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo // waits for the end, but leaves the zombie
	if err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"zombie", "reaped"} {
		_, err := Send(t.Context(), map[image.VPID]int{1: p.pid}, regions, []Sink{newCollector(nil)}, nil)
		var read *ReadError
		if !errors.As(err, &read) || !errors.Is(err, unix.ESRCH) {
			t.Errorf("%s: the error is %v, want ESRCH", state, err)
		}
		_ = p.cmd.Wait() // killed
	}
}

func TestWhatCannotBeSentIsRefusedBeforeAnythingIs(t *testing.T) {
	ok := []image.Region{{Addr: 0x1000, Pages: 1, Lazy: true}}
	refuse := map[string]struct {
		tasks   map[image.VPID]int
		regions []image.Region
		sinks   []Sink
	}{
		"no stream":    {map[image.VPID]int{1: 1}, ok, nil},
		"unknown pid":  {nil, ok, []Sink{newCollector(nil)}},
		"odd address":  {map[image.VPID]int{1: 1}, []image.Region{{Addr: 0x1001, Pages: 1, Lazy: true}}, []Sink{newCollector(nil)}},
		"empty region": {map[image.VPID]int{1: 1}, []image.Region{{Addr: 0x1000, Lazy: true}}, []Sink{newCollector(nil)}},
	}
	for name, c := range refuse {
		_, err := Send(t.Context(), c.tasks, map[image.VPID][]image.Region{1: c.regions}, c.sinks, nil)
		if read := (*ReadError)(nil); err == nil || errors.As(err, &read) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// cutAfter is a stream that breaks, or calls stop instead, after some frames.
type cutAfter struct {
	Sink
	left atomic.Int64
	err  error
	stop func()
}

func (c *cutAfter) WriteFrame(p []byte) error {
	if c.left.Add(-1) < 0 {
		if c.stop != nil {
			c.stop()
		}
		return c.err
	}
	return c.Sink.WriteFrame(p)
}

func TestABrokenStreamStopsAllWorkers(t *testing.T) {
	p := launch(t, "plain", 20_000)
	children := map[image.VPID]process{1: p}
	c := newCollector(children)
	broken := &cutAfter{Sink: c, err: errors.New("link is down")}
	broken.left.Store(3)
	stats, err := Send(t.Context(), pidsOf(children), map[image.VPID][]image.Region{1: {p.region()}}, []Sink{c, broken}, nil)
	if !errors.Is(err, broken.err) {
		t.Errorf("the error is %v, want that of the stream", err)
	}
	if stats.Frames != c.frames || stats.Pages >= p.pages {
		t.Errorf("stats %+v, %d frames arrived of a memory of %d pages", stats, c.frames, p.pages)
	}
}

func TestACancelledContextStopsTheSending(t *testing.T) {
	p := launch(t, "plain", 20_000)
	children := map[image.VPID]process{1: p}
	reason := errors.New("the operator gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	c := newCollector(children)
	sink := &cutAfter{Sink: c, stop: func() { cancel(reason) }}
	sink.left.Store(5)
	regions := map[image.VPID][]image.Region{1: {p.region()}}
	if _, err := Send(ctx, pidsOf(children), regions, []Sink{sink, sink}, nil); !errors.Is(err, reason) {
		t.Errorf("the error is %v, want the reason of the cancelling", err)
	}
	if most := int64(7); c.frames > most {
		t.Errorf("%d frames were sent after the cancelling, want %d at most", c.frames, most)
	}
	before := c.frames
	if _, err := Send(ctx, pidsOf(children), regions, []Sink{c}, nil); !errors.Is(err, reason) || c.frames != before {
		t.Errorf("with a cancelled context it gave %v and sent %d frames", err, c.frames-before)
	}
}

type discard struct{}

func (discard) WriteFrame([]byte) error { return nil }

func BenchmarkSend(b *testing.B) {
	p := launch(b, "plain", 50_000)
	regions := map[image.VPID][]image.Region{1: {p.region()}}
	b.SetBytes(p.pages * image.PageSize)
	for b.Loop() {
		if _, err := Send(b.Context(), map[image.VPID]int{1: p.pid}, regions, []Sink{discard{}, discard{}}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
