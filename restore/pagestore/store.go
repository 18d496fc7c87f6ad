package pagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

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
	data dataFile
	log  indexLog
	view bool // another process may be in the middle of writing a record

	mu     sync.Mutex // for index, blocks and the order of records in the log
	index  index
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
	if err := s.replay(reader(s.log.File)); err != nil {
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
	if err := v.replay(newLogReader(v.log.File)); err != nil {
		return nil, fmt.Errorf("view page store in %s: %w", s.Dir, errors.Join(err, v.Close()))
	}
	return v, nil
}

// replay has the index be what r has read and what the log says behind that.
func (s *Store) replay(r *logReader) error {
	if err := r.advance(s.data.size); err != nil {
		return err
	}
	if info, err := s.log.Stat(); err != nil {
		return err
	} else if !s.view && info.Size() != r.at {
		return fmt.Errorf("%w: the index log ends inside a record", ErrDamaged)
	}
	size, err := s.data.size()
	if err != nil {
		return err
	}
	s.index = r.index
	s.blocks = count(s.index, size)
	return nil
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
	return &Store{Dir: dir, data: dataFile{data}, log: indexLog{log}, index: make(index)}, nil
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
	for _, old := range s.index.of(vpid).Within(addr, addr+uint64(size)) {
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
		if err := s.log.append(appendRecord(nil, recordData, vpid, sp)); err != nil {
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
	if known := s.index.of(vpid).Within(sp.Start, sp.End); len(known) == 1 && known[0] == sp {
		return nil
	}
	err := s.log.append(appendRecord(nil, recordZero, vpid, sp))
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

// replace puts sp into the index and frees what it covers.
func (s *Store) replace(vpid stream.VPID, sp pageset.Span) error {
	t := s.index.of(vpid)
	old := t.Cut(sp.Start, sp.End)
	t.Insert(sp)
	return s.data.punch(s.blocks.release(old))
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
	return s.data.punch(holes)
}

// Mmap maps the data file for reading, and more bytes by which it may grow; nil if both are empty.
func (s *Store) Mmap(more int64) ([]byte, error) { return s.data.mmap(more) }

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
