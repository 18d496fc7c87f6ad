package tmpfs

import (
	"bytes"
	"context"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"
)

const (
	chunkPages = 128
	chunkSize  = chunkPages * PageSize
	maxWorkers = 4
)

// chunk is what the target has of a part of a file: a hash of each page, zero for
// one that is a hole there.
type chunk struct {
	seen int
	hash [chunkPages]xxh3.Uint128
}

// held is an open file with the number of those who still need it.
type held struct {
	*os.File
	users atomic.Int32
}

func (h *held) done() {
	if h.users.Add(-1) == 0 {
		_ = h.Close() // opened for reading only
	}
}

// work is one chunk to compare; without a file it is gone.
type work struct {
	file  *held
	id    uint64
	index int64
	chunk *chunk
}

// workers compares chunks on several processors and sends what has changed.
type workers struct {
	ctx    context.Context
	stop   context.CancelCauseFunc
	seed   uint64
	queue  chan work
	all    sync.WaitGroup
	lock   sync.Mutex // of out
	out    Sink
	looked atomic.Int64
	sent   atomic.Int64
}

func newWorkers(ctx context.Context, seed uint64, out Sink) *workers {
	c := &workers{seed: seed, queue: make(chan work), out: out}
	c.ctx, c.stop = context.WithCancelCause(ctx)
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		c.all.Go(c.serve)
	}
	return c
}

// do hands a chunk to whoever is free.
func (c *workers) do(w work) error {
	select {
	case c.queue <- w:
		return nil
	case <-c.ctx.Done():
		if w.file != nil {
			w.file.done()
		}
		return context.Cause(c.ctx)
	}
}

// end waits until all chunks are done with.
func (c *workers) end() (Stats, error) {
	close(c.queue)
	c.all.Wait()
	err := context.Cause(c.ctx)
	c.stop(nil)
	return Stats{Looked: c.looked.Load(), Changed: c.sent.Load()}, err
}

func (c *workers) serve() {
	buf, frame := make([]byte, chunkSize), make([]byte, 0, MaxFrame)
	for w := range c.queue {
		if err := c.compare(w, buf, frame); err != nil {
			c.stop(err)
		}
	}
}

// compare sends the pages of a chunk that are not what the target has.
func (c *workers) compare(w work, buf, frame []byte) error {
	now, err := c.read(w, buf)
	if err != nil {
		return err
	}
	frame = frame[:0]
	for i := 0; i < chunkPages; {
		if now[i] == w.chunk.hash[i] {
			i++
			continue
		}
		hole := now[i] == xxh3.Uint128{}
		n := i + 1
		for n < chunkPages && now[n] != w.chunk.hash[n] && hole == (now[n] == xxh3.Uint128{}) {
			n++
		}
		r := run{id: w.id, offset: w.index*chunkSize + int64(i)*PageSize, pages: uint32(n - i), flags: runHole}
		if !hole {
			r.flags, r.data = 0, buf[i*PageSize:n*PageSize]
		}
		frame = appendRun(frame, r)
		i = n
	}
	w.chunk.hash = now
	if len(frame) == 0 {
		return nil
	}
	c.sent.Add(int64(len(frame)))
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.out.WriteFrame(frame)
}

// read reads a chunk and returns the hashes of its pages. What lies beyond the end of
// the file, which may be an end by now that it was not before, is zero.
func (c *workers) read(w work, buf []byte) (now [chunkPages]xxh3.Uint128, err error) {
	if w.file == nil {
		return now, nil
	}
	defer w.file.done()
	n, err := w.file.ReadAt(buf, w.index*chunkSize)
	if err != nil && err != io.EOF {
		return now, err
	}
	c.looked.Add(int64(n))
	clear(buf[n:])
	for i := range (n + PageSize - 1) / PageSize {
		if page := buf[i*PageSize:][:PageSize]; !bytes.Equal(page, zeroPage[:]) {
			now[i] = xxh3.Hash128Seed(page, c.seed)
		}
	}
	return now, nil
}

var zeroPage [PageSize]byte
