package progress

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/logkey"
)

// Records keeps the records of moves from this node, for users to read. The journal, not they,
// decides where a job is. So a record that cannot be written is a line in the log, and fails no
// move.
type Records struct {
	Dir string
	Log *slog.Logger

	mu sync.Mutex
}

// KeptRecords bounds the number of records that are kept, and maxRecord each, in bytes.
const (
	KeptRecords = 1000
	maxRecord   = 4 << 20
	recordExt   = ".json"
)

// Path is the file of a move's record.
func (s *Records) Path(m string) string { return filepath.Join(s.Dir, m+recordExt) }

func (s *Records) save(r api.MoveRecord) {
	if err := s.Write(r); err != nil {
		s.Log.Warn("the record of a move is lost", logkey.Move, r.Move, logkey.Err, err)
	}
}

// Write writes a record, durably, and removes the oldest beyond KeptRecords.
func (s *Records) Write(r api.MoveRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := exactjson.Marshal(r)
	if err != nil {
		return err
	}
	if len(data) > maxRecord {
		return fmt.Errorf("it has %d bytes, above %d", len(data), maxRecord)
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(s.Path(r.Move), data, 0o600); err != nil {
		return err
	}
	return s.prune()
}

// prune removes the oldest records beyond KeptRecords.
func (s *Records) prune() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) <= KeptRecords {
		return err
	}
	age := map[string]time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			age[e.Name()] = info.ModTime()
		}
	}
	slices.SortFunc(entries, func(x, y os.DirEntry) int { return age[y.Name()].Compare(age[x.Name()]) })
	var errs []error
	for _, e := range entries[KeptRecords:] {
		errs = append(errs, os.Remove(filepath.Join(s.Dir, e.Name())))
	}
	return errors.Join(errs...)
}

// Get returns the record of a move; os.ErrNotExist says that there is none.
func (s *Records) Get(m handoff.MoveID) (r api.MoveRecord, err error) {
	data, err := os.ReadFile(s.Path(string(m)))
	if err != nil {
		return r, err
	}
	if err := exactjson.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("record of move %s: %w", m, err)
	}
	return r, nil
}

// List returns all records that can be read.
func (s *Records) List() []api.MoveRecord {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Log.Warn("the records of moves cannot be read", logkey.Err, err)
	}
	var all []api.MoveRecord
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordExt)
		m, err := handoff.ParseMoveID(name)
		if !ok || err != nil {
			continue
		}
		r, err := s.Get(m)
		if err != nil {
			s.Log.Warn("the record of a move cannot be read", logkey.Move, m, logkey.Err, err)
			continue
		}
		all = append(all, r)
	}
	return all
}
