package tmpfs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Source is a tmpfs of a job that is being sent. Its methods are for one goroutine,
// unless they say otherwise.
type Source struct {
	// Target is where the job has it mounted.
	Target  string
	Options Options

	root    *os.File
	seed    uint64 // of the hashes, so that no job can prepare pages that collide
	round   int
	entries []Entry
	noted   []*file // those of the entries that have content

	mu    sync.Mutex // the fields below
	next  uint64
	files map[identity]*file
}

// identity tells a file from every other one of the file system, also from one that
// got its inode number after it.
type identity struct {
	ino  uint64
	kind uint16
	born unix.StatxTimestamp
}

// file is what the target knows of a file.
type file struct {
	id     uint64
	seen   int // the round in which it was there last
	chunks map[int64]*chunk
}

// Open takes hold of the tmpfs that the job of PID 1 pid has mounted at target.
// mount and options are its number and its options in mountinfo.
func Open(pid int, target, mount, options string) (*Source, error) {
	o, err := ParseOptions(options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	root, err := open(pid, target, mount)
	if err != nil {
		return nil, err
	}
	return newSource(target, o, root), nil
}

func newSource(target string, o Options, root *os.File) *Source {
	return &Source{Target: target, Options: o, root: root, seed: random(), files: map[identity]*file{}}
}

func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// Close lets go of the file system.
func (s *Source) Close() error { return s.root.Close() }

// Sink takes frames, of at most MaxFrame bytes each, and does not keep them.
type Sink interface {
	WriteFrame(frame []byte) error
}

// Stats counts what a round has done, in bytes.
type Stats struct {
	Looked  int64 // content that was read and compared
	Changed int64 // of it what was sent
}

// Send is one round: it sends what has changed in the files since the one before.
// A file that vanishes or shrinks meanwhile is none. Note may be called meanwhile.
func (s *Source) Send(ctx context.Context, out Sink) (Stats, error) {
	s.round++
	c := newCrew(ctx, s.seed, out)
	err := s.walk(ctx, false, func(e found) error {
		if e.kind() != unix.S_IFREG {
			return nil
		}
		return s.look(c, e)
	})
	stats, workErr := c.end()
	if err = errors.Join(workErr, err); err == nil {
		err = s.forget(out)
	}
	if err != nil {
		return stats, fmt.Errorf("send %s: %w", s.Target, err)
	}
	return stats, nil
}

// number gives a file the number that the target knows it by.
func (s *Source) number(e found) *file {
	key := identity{e.st.Ino, e.st.Mode & unix.S_IFMT, e.st.Btime}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[key]
	if f == nil {
		s.next++
		f = &file{id: s.next, chunks: map[int64]*chunk{}}
		s.files[key] = f
	}
	return f
}

// forget tells of the files that are gone.
func (s *Source) forget(out Sink) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, f := range s.files {
		if f.seen == s.round || key.kind != unix.S_IFREG {
			continue
		}
		delete(s.files, key)
		if err := out.WriteFrame(appendRun(nil, run{id: f.id, flags: runGone})); err != nil {
			return err
		}
	}
	return nil
}

// look has the pages of a file compared, and those of chunks that it has no more.
func (s *Source) look(c *crew, e found) error {
	f := s.number(e)
	if f.seen == s.round {
		return nil // by another name
	}
	data, err := e.open()
	if err != nil || data == nil {
		return notGone(err, false)
	}
	f.seen = s.round
	held := &held{File: data}
	held.users.Store(1)
	defer held.done()
	err = eachChunk(data, func(index int64) error {
		k := f.chunks[index]
		if k == nil {
			k = &chunk{}
			f.chunks[index] = k
		}
		k.seen = s.round
		held.users.Add(1)
		return c.do(work{file: held, id: f.id, index: index, chunk: k})
	})
	if err != nil {
		return err
	}
	for index, k := range f.chunks {
		if k.seen == s.round {
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

func seek(f *os.File, off int64, whence int) (at int64, err error) {
	err = retry(func() (err error) {
		at, err = unix.Seek(int(f.Fd()), off, whence)
		return err
	})
	return at, err
}

// notGone lets what vanished while the job ran be nothing.
func notGone(err error, frozen bool) error {
	if !frozen && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE)) {
		return nil
	}
	return err
}
