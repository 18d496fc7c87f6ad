package tmpfs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// Files are files whose content is sent in rounds, and what the target has of them.
type Files struct {
	seed   uint64 // of the hashes, so that no job can prepare pages that collide
	rounds int

	mu    sync.Mutex // the fields below
	next  uint64
	known map[identity]*file
	index map[xxh3.Uint128]Place // nil after a round
}

// identity tells a file from every other one, also from one that got its inode number
// after it.
type identity struct {
	major, minor uint32
	ino          uint64
	kind         uint16
	born         unix.StatxTimestamp
}

// file is what the target knows of a file.
type file struct {
	id     uint64
	seen   int // the round in which it was there last
	chunks map[int64]*chunk
}

// Sink takes frames, of at most MaxFrame bytes each, and does not keep them.
type Sink interface {
	WriteFrame(frame []byte) error
}

// Stats counts what a round has done, in bytes.
type Stats struct {
	Looked  int64 // content that was read and compared
	Changed int64 // of it what was sent
}

// NewFiles returns Files of which nothing has been sent.
func NewFiles() *Files {
	return &Files{seed: random(), known: map[identity]*file{}}
}

func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// Send is one round over the open regular files that list names by calling look, which
// closes them. A file may be named more than once. What is not named is gone.
func (s *Files) Send(ctx context.Context, out Sink, list func(look func(*os.File) error) error) (Stats, error) {
	return s.round(ctx, out, func(c *workers) error {
		return list(func(f *os.File) error {
			st, err := statx(f, "")
			if err != nil {
				return errors.Join(err, f.Close())
			}
			known := s.of(&st)
			if known.seen == s.rounds {
				return f.Close()
			}
			return s.look(c, known, f)
		})
	})
}

func (s *Files) round(ctx context.Context, out Sink, walk func(*workers) error) (Stats, error) {
	s.rounds++
	s.index = nil
	c := newWorkers(ctx, s.seed, out)
	err := walk(c)
	stats, workErr := c.end()
	if err = errors.Join(workErr, err); err == nil {
		err = s.forget(out)
	}
	return stats, err
}

// of finds what is known of a file, or gives it the number that the target shall know
// it by.
func (s *Files) of(st *unix.Statx_t) *file {
	key := identity{st.Dev_major, st.Dev_minor, st.Ino, st.Mode & unix.S_IFMT, st.Btime}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.known[key]
	if f == nil {
		s.next++
		f = &file{id: s.next, chunks: map[int64]*chunk{}}
		s.known[key] = f
	}
	return f
}

// forget tells of the files that are gone.
func (s *Files) forget(out Sink) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, f := range s.known {
		if f.seen == s.rounds || key.kind != unix.S_IFREG {
			continue
		}
		delete(s.known, key)
		if err := out.WriteFrame(appendRun(nil, run{id: f.id, flags: runGone})); err != nil {
			return err
		}
	}
	return nil
}

// look has the pages of a file compared, and those of chunks that it has no more. It
// closes the file.
func (s *Files) look(c *workers, f *file, data *os.File) error {
	f.seen = s.rounds
	held := &held{File: data}
	held.users.Store(1)
	defer held.done()
	err := eachChunk(data, func(index int64) error {
		k := f.chunks[index]
		if k == nil {
			k = &chunk{}
			f.chunks[index] = k
		}
		k.seen = s.rounds
		held.users.Add(1)
		return c.do(work{file: held, id: f.id, index: index, chunk: k})
	})
	if err != nil {
		return err
	}
	for index, k := range f.chunks {
		if k.seen == s.rounds {
			continue
		}
		delete(f.chunks, index)
		if err := c.do(work{id: f.id, index: index, chunk: k}); err != nil {
			return err
		}
	}
	return nil
}

// eachChunk calls fn for every chunk of the file that holds data, in order.
func eachChunk(f *os.File, fn func(index int64) error) error {
	next := int64(0)
	for off := int64(0); ; {
		from, err := seek(f, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole, or the file has shrunk
		}
		if err != nil {
			return err
		}
		to, err := seek(f, from, unix.SEEK_HOLE)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		for index := max(next, from/chunkSize); index*chunkSize < to; index++ {
			if err := fn(index); err != nil {
				return err
			}
			next = index + 1
		}
		off = to
	}
}

func seek(f *os.File, off int64, whence int) (int64, error) {
	return linux.RetryValue(func() (int64, error) { return unix.Seek(int(f.Fd()), off, whence) })
}

// Place is a page of a file that the target has.
type Place struct {
	File   uint64
	Offset int64
}

// Find looks for a page that the target has, after the last round.
func (s *Files) Find(page []byte) (Place, bool) {
	s.Index()
	place, ok := s.index[xxh3.Hash128Seed(page, s.seed)]
	return place, ok
}

// Index makes Find fast, which would do it itself at its first call.
func (s *Files) Index() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index != nil {
		return
	}
	s.index = map[xxh3.Uint128]Place{}
	for _, f := range s.known {
		for at, c := range f.chunks {
			for i, hash := range c.hash {
				if hash != (xxh3.Uint128{}) {
					s.index[hash] = Place{f.id, at*chunkSize + int64(i)*PageSize}
				}
			}
		}
	}
}

// Empty says that the target has nothing of any file.
func (s *Files) Empty() bool { return len(s.known) == 0 }
