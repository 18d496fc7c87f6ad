package job

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/exactjson"
)

// Errors of Store to branch on.
var (
	ErrNotFound = errors.New("no such job on this node")
	ErrExists   = errors.New("the job is already on this node")
)

// RecordError says that the record of a job is there, or was, and cannot be read. Nothing
// is known of the job but that.
type RecordError struct {
	ID  ID
	Err error
}

func (e *RecordError) Error() string { return fmt.Sprintf("read job %s: %v", e.ID, e.Err) }
func (e *RecordError) Unwrap() error { return e.Err }

const (
	recordName = "record.json"
	recordMode = 0o600
	dirMode    = 0o711 // the job's own user passes through to its output
)

// Store keeps the records of one node's jobs. Several processes may use one directory at a time.
type Store struct{ dir string }

// OpenStore opens the store in dir, which is made (mode 0711) if it is missing.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("open job store: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
		return nil, fmt.Errorf("open job store: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Dir is the directory of a job's files; it exists from Create to Remove.
func (s *Store) Dir(id ID) string { return filepath.Join(s.dir, string(id)) }

// Create adds a job whose record is valid. It fails with ErrExists when the store has one of this id.
func (s *Store) Create(r Record) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("create job %s: %w", r.ID, err)
	}
	data, err := encode(r)
	if err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(s.dir, ".new-*") // whole or absent: the job's directory appears with its record
	if err == nil {
		err = os.Chmod(fresh, dirMode)
	}
	if err != nil {
		return fmt.Errorf("create job %s: %w", r.ID, err)
	}
	if err := s.publish(fresh, r.ID, data); err != nil {
		return fmt.Errorf("create job %s: %w", r.ID, errors.Join(err, os.RemoveAll(fresh)))
	}
	return nil
}

func (s *Store) publish(fresh string, id ID, data []byte) error {
	if err := durable.WriteFile(filepath.Join(fresh, recordName), data, recordMode); err != nil {
		return err
	}
	//house:allow os.Rename: of a directory, which is synced below
	if err := os.Rename(fresh, s.Dir(id)); err != nil {
		if errors.Is(err, fs.ErrExist) { // ENOTEMPTY and EEXIST both
			return ErrExists
		}
		return err
	}
	return durable.SyncDir(s.dir)
}

// Get returns the record of a job. It fails with ErrNotFound when the store has none.
func (s *Store) Get(id ID) (Record, error) {
	if _, err := ParseID(string(id)); err != nil {
		return Record{}, errors.Join(ErrNotFound, err)
	}
	data, err := readBounded(filepath.Join(s.Dir(id), recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, s.absent(id)
	}
	if err != nil {
		return Record{}, &RecordError{id, err}
	}
	r, err := decode(data)
	if err == nil {
		err = durable.Verify(data)
	}
	r.CRC = ""
	if err == nil && r.ID != id {
		err = fmt.Errorf("it names job %s", r.ID)
	}
	if err != nil {
		return Record{}, &RecordError{id, fmt.Errorf("%s: %w", filepath.Join(s.Dir(id), recordName), err)}
	}
	return r, nil
}

// absent tells a job that is not here from one that has lost its record.
func (s *Store) absent(id ID) error {
	if _, err := os.Stat(s.Dir(id)); err == nil {
		return &RecordError{id, fmt.Errorf("%s has no %s", s.Dir(id), recordName)}
	}
	return fmt.Errorf("job %s: %w", id, ErrNotFound)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxRecord+1))
}

// Update changes a record by change, which sees the newest one and may refuse with an error; then
// nothing is written. No other Update of the job, in whatever process, happens in between. Update
// returns the record as it is afterwards. change must not call Update for the same job.
func (s *Store) Update(id ID, change func(*Record) error) (Record, error) {
	if _, err := ParseID(string(id)); err != nil {
		return Record{}, errors.Join(ErrNotFound, err)
	}
	unlock, err := lock(s.Dir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, fmt.Errorf("job %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Record{}, fmt.Errorf("lock job %s: %w", id, err)
	}
	defer unlock()
	r, err := s.Get(id)
	if err != nil {
		return Record{}, err
	}
	if err := change(&r); err != nil {
		return Record{}, err
	}
	if r.ID != id {
		return Record{}, fmt.Errorf("update job %s: a job keeps its id", id)
	}
	data, err := encode(r)
	if err != nil {
		return Record{}, err
	}
	return r, durable.WriteFile(filepath.Join(s.Dir(id), recordName), data, recordMode)
}

func encode(r Record) ([]byte, error) {
	r.Format, r.CRC = Format, durable.Unsealed
	data, err := exactjson.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", r.ID, err)
	}
	data = append(data, '\n')
	durable.Seal(data)
	if _, err := decode(data); err != nil { // what cannot be read again must not be written
		return nil, err
	}
	return data, nil
}

// IDs lists the jobs of the store.
func (s *Store) IDs() ([]ID, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	var ids []ID
	for _, e := range entries {
		if id, err := ParseID(e.Name()); err == nil && !strings.HasPrefix(e.Name(), ".") {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Size is what the record of a job takes, in bytes; 0 if there is none.
func (s *Store) Size(id ID) int64 {
	info, err := os.Stat(filepath.Join(s.Dir(id), recordName))
	if err != nil {
		return 0
	}
	return info.Size()
}

// List returns the records of all jobs, oldest first, and an error that joins a [RecordError] for
// each that could not be read. Both may be there.
func (s *Store) List() ([]Record, error) {
	records, broken, err := s.ListAll()
	errs := []error{err}
	for _, b := range broken {
		errs = append(errs, b)
	}
	return records, errors.Join(errs...)
}

// ListAll returns the records of all jobs, oldest first, and those that could not be read.
func (s *Store) ListAll() (records []Record, broken []*RecordError, err error) {
	ids, err := s.IDs()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		r, err := s.Get(id)
		var unread *RecordError
		switch {
		case err == nil:
			records = append(records, r)
		case errors.As(err, &unread):
			broken = append(broken, unread)
		case !errors.Is(err, ErrNotFound): // removed meanwhile
			return nil, nil, err
		}
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return records, broken, nil
}

// RemoveIf removes a job if its newest record is such that may says so; no Update happens in between.
func (s *Store) RemoveIf(id ID, may func(Record) bool) error {
	unlock, err := lock(s.Dir(id))
	if err != nil {
		return s.absent(id)
	}
	defer unlock()
	if r, err := s.Get(id); err != nil || !may(r) {
		return err
	}
	return s.Remove(id)
}

// Remove forgets a job and deletes its directory with all that is in it. Removing a job that is
// not there is no error.
func (s *Store) Remove(id ID) error {
	if _, err := ParseID(string(id)); err != nil {
		return err
	}
	gone := filepath.Join(s.dir, ".gone-"+string(id))
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove job %s: %w", id, err)
	}
	//house:allow os.Rename: of a directory, which is synced below
	if err := os.Rename(s.Dir(id), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove job %s: %w", id, err)
	}
	if err := errors.Join(durable.SyncDir(s.dir), os.RemoveAll(gone)); err != nil {
		return fmt.Errorf("remove job %s: %w", id, err)
	}
	return nil
}
