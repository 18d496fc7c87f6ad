package pagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

const (
	dataName = "pages.data"
	logName  = "pages.log"
)

// Errors that callers tell apart.
var (
	// ErrDamaged: the index log of a store cannot be trusted.
	ErrDamaged = errors.New("page store is damaged")
	// ErrMissing: the store lacks a page that CRIU's pagemaps name.
	ErrMissing = errors.New("page is missing from the store")
	// ErrRange: an address or length that no page run can have.
	ErrRange = errors.New("bad page range")
)

// Store keeps pages by their process and address. Its methods may be called concurrently. A page
// that is put again replaces the earlier one. Of two puts at the same time either may win.
type Store struct {
	Dir  string
	data *os.File
	log  *os.File
	view bool // another process may be in the middle of writing a record

	mu     sync.Mutex
	index  map[stream.VPID]*pageset.Set
	blocks blocks
}

// Create makes an empty store in dir, which must exist and must not hold a store. The directory is
// on a tmpfs: the pages of a job belong in memory.
func Create(dir string) (*Store, error) {
	s, err := openStore(dir, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, fmt.Errorf("create page store in %s: %w", dir, err)
	}
	if _, err := s.log.Write(logHeader()); err != nil {
		return nil, fmt.Errorf("create page store in %s: %w", dir, errors.Join(err, s.Close(), s.Remove()))
	}
	return s, nil
}

// Open opens the store that Create made in dir, with every page put so far. Another process may
// have put them, but must have stopped. Open returns ErrDamaged if the index log is incomplete or
// does not fit the data.
func Open(dir string) (*Store, error) { return open(dir, newLogReader) }

func open(dir string, reader func(log *os.File) *logReader) (*Store, error) {
	s, err := openStore(dir, 0)
	if err != nil {
		return nil, fmt.Errorf("open page store in %s: %w", dir, err)
	}
	if err := s.replay(reader(s.log)); err != nil {
		return nil, fmt.Errorf("open page store in %s: %w", dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

// View opens the store once more, to read what is in it by now. This or another process may put
// more pages meanwhile; the view does not have them.
func (s *Store) View() (*Store, error) {
	v, err := openStore(s.Dir, 0)
	if err != nil {
		return nil, fmt.Errorf("view page store in %s: %w", s.Dir, err)
	}
	v.view = true
	if err := v.replay(newLogReader(v.log)); err != nil {
		return nil, fmt.Errorf("view page store in %s: %w", s.Dir, errors.Join(err, v.Close()))
	}
	return v, nil
}

func openStore(dir string, flags int) (*Store, error) {
	data, err := os.OpenFile(filepath.Join(dir, dataName), os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, logName), os.O_RDWR|os.O_APPEND|flags, 0o600)
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	return &Store{Dir: dir, data: data, log: log, index: make(map[stream.VPID]*pageset.Set)}, nil
}

// putRange is a part of a put: data[from:to] goes to offset off of the data file.
type putRange struct {
	from, to int64
	off      int64
	fresh    bool // the index does not know it yet
}

// Put keeps a copy of data, whole pages found at addr (bytes) of process vpid.
// Once it has returned, also a process that opens the store finds them.
func (s *Store) Put(vpid stream.VPID, addr uint64, data []byte) error {
	if err := checkRange(vpid, addr, int64(len(data))/stream.PageSize); err != nil || len(data)%stream.PageSize != 0 {
		return fmt.Errorf("put %d bytes at %#x of task %d: %w", len(data), addr, vpid, errors.Join(ErrRange, err))
	}
	pieces := s.plan(vpid, addr, int64(len(data)))
	for _, p := range pieces {
		if _, err := s.data.WriteAt(data[p.from:p.to], p.off); err != nil {
			return fmt.Errorf("put %d bytes at %#x of task %d: %w", len(data), addr, vpid, err)
		}
	}
	if err := s.publish(vpid, addr, pieces); err != nil {
		return fmt.Errorf("put %d bytes at %#x of task %d: %w", len(data), addr, vpid, err)
	}
	return nil
}

// plan finds a place for each page: the one that it has already, or a new one.
func (s *Store) plan(vpid stream.VPID, addr uint64, size int64) []putRange {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []putRange
	done := int64(0)
	fresh := func(to int64) {
		if done < to {
			out = append(out, putRange{done, to, s.blocks.alloc(to - done), true})
		}
	}
	for _, old := range s.tableOf(vpid).Within(addr, addr+uint64(size)) {
		if old.Zero() {
			continue
		}
		from := int64(old.Start - addr)
		fresh(from)
		done = from + old.Bytes()
		out = append(out, putRange{from, done, old.Off, false})
	}
	fresh(size)
	return out
}

// publish adds the new ranges to the index, now that their data is in place.
func (s *Store) publish(vpid stream.VPID, addr uint64, pieces []putRange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range pieces {
		if !p.fresh {
			continue
		}
		sp := pageset.Span{Start: addr + uint64(p.from), End: addr + uint64(p.to), Off: p.off}
		if err := s.append(recordData, vpid, sp); err != nil {
			return err
		}
		if err := s.replace(vpid, sp); err != nil {
			return err
		}
	}
	return nil
}

// PutZero notes that pages at addr (bytes) of process vpid are zero. They take
// no memory.
func (s *Store) PutZero(vpid stream.VPID, addr uint64, pages int64) error {
	if err := checkRange(vpid, addr, pages); err != nil {
		return fmt.Errorf("put %d zero pages at %#x of task %d: %w", pages, addr, vpid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := pageset.Span{Start: addr, End: addr + uint64(pages)*stream.PageSize, Off: pageset.ZeroOff}
	if known := s.tableOf(vpid).Within(sp.Start, sp.End); len(known) == 1 && known[0] == sp {
		return nil
	}
	err := s.append(recordZero, vpid, sp)
	if err == nil {
		err = s.replace(vpid, sp)
	}
	if err != nil {
		return fmt.Errorf("put %d zero pages at %#x of task %d: %w", pages, addr, vpid, err)
	}
	return nil
}

func checkRange(vpid stream.VPID, addr uint64, pages int64) error {
	if vpid <= 0 || pages <= 0 || addr%stream.PageSize != 0 || addr >= stream.MaxAddress || uint64(pages) > (stream.MaxAddress-addr)/stream.PageSize {
		return fmt.Errorf("%w: task %d, address %#x, %d pages", ErrRange, vpid, addr, pages)
	}
	return nil
}

func (s *Store) tableOf(vpid stream.VPID) *pageset.Set { return pageset.Of(s.index, vpid) }

// replace puts sp into the index and frees what it covers.
func (s *Store) replace(vpid stream.VPID, sp pageset.Span) error {
	t := s.tableOf(vpid)
	old := t.Cut(sp.Start, sp.End)
	t.Insert(sp)
	return s.punch(s.blocks.release(old))
}

// Retain counts one more user of the pages of spans. Each user releases them.
func (s *Store) Retain(spans []pageset.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks.retain(spans)
}

// Release frees pages that are not needed any more.
func (s *Store) Release(spans ...pageset.Span) error {
	s.mu.Lock()
	holes := s.blocks.release(spans)
	s.mu.Unlock()
	return s.punch(holes)
}

func (s *Store) punch(holes []hole) error {
	for _, h := range holes {
		const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		err := linux.Retry(func() error { return unix.Fallocate(int(s.data.Fd()), mode, h.off, h.size) })
		if err != nil {
			return fmt.Errorf("give back %d bytes of the page store: %w", h.size, err)
		}
	}
	return nil
}

// Mmap maps the data file for reading, and more bytes by which it may grow; nil if both are empty.
func (s *Store) Mmap(more int64) ([]byte, error) {
	size, err := s.size()
	if err != nil || size+more == 0 {
		return nil, err
	}
	memory, err := unix.Mmap(int(s.data.Fd()), 0, int(size+more), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the page store: %w", err)
	}
	return memory, nil
}

// Bytes returns the size of the pages held, in bytes; zero pages are none.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, t := range s.index {
		n += t.Data
	}
	return n
}

// Close closes the store's files. The pages stay until Remove.
func (s *Store) Close() error {
	return errors.Join(s.data.Close(), s.log.Close())
}

// Remove deletes the store's files. It may be called before or after Close, and twice.
func (s *Store) Remove() error {
	var errs []error
	for _, name := range []string{dataName, logName} {
		if err := os.Remove(filepath.Join(s.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
