package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/linux"
)

// Errors of the journal to branch on.
var (
	ErrUnknownMove = errors.New("no record of this move on this node")
	ErrBusy        = errors.New("another move of this job is not finished on this node")
	ErrUnfinished  = errors.New("the move is not finished")
	// ErrUnsure says that a record may be on the disk or not: writing it failed, and so did writing
	// the file without it. Nothing may follow from it, nor from its absence, until either succeeds
	// or the agent starts again and reads the file. Each question about the move tries once more.
	ErrUnsure = errors.New("the disk may hold the record or not")
)

const (
	journalSuffix = ".journal"
	journalMode   = 0o600
)

// Journal is the memory of a node's moves. It is used by one agent at a time.
//
// It answers from what is known to be on the disk, never from a record that is being written.
type Journal struct {
	dir   string
	guard *os.File // holds the lock on dir
	disk  disk

	mu      sync.Mutex
	moves   map[MoveID]*entry
	foreign map[string]*entry // files whose names are those of no move
	aside   map[MoveID]bool   // an operator has set the damaged file aside
	runs    map[MoveID]*run
}

// disk is how the journal writes. Tests wrap the real one.
type disk interface {
	Append(path string, line []byte) error
	Replace(path string, data []byte) error
}

type realDisk struct{}

func (realDisk) Append(path string, line []byte) error {
	return durable.AppendLine(path, line, journalMode)
}

func (realDisk) Replace(path string, data []byte) error {
	return durable.WriteFile(path, data, journalMode)
}

// entry is a move: its newest durable record and all lines of its file.
type entry struct {
	last   Record
	lines  [][]byte
	unsure bool // what the file holds beyond lines is not known

	damage  error     // the file cannot be trusted
	job     string    // then: that it is about, "" if that is not known
	changed time.Time // then: when the file changed last
}

func (e *entry) open() bool { return e.damage != nil || e.unsure || !e.last.State.Finished() }

// OpenJournal reads the journal in dir, which is made (mode 0700) if it is missing. Damage to one
// move does not keep it from opening: List reports it. It fails when another agent has it open.
func OpenJournal(dir string) (*Journal, error) {
	j, err := openJournal(dir, realDisk{})
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

func openJournal(dir string, d disk) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
		return nil, err
	}
	guard, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, guard: guard, disk: d, moves: map[MoveID]*entry{}, foreign: map[string]*entry{}, aside: map[MoveID]bool{}, runs: map[MoveID]*run{}}
	if err := j.load(); err != nil {
		return nil, errors.Join(err, guard.Close())
	}
	return j, nil
}

// lockTime is how long the lock of a killed agent may last: a process that it was starting has a
// copy of the descriptor until its exec.
const lockTime = 2 * time.Second

func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = linux.Flock(d, unix.LOCK_EX|unix.LOCK_NB)
	for end := time.Now().Add(lockTime); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); {
		time.Sleep(lockTime / 100)
		err = linux.Flock(d, unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s is in use by another agent on this node: stop that one first", dir)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close lets another agent open the journal. It writes nothing: all is on the disk already.
func (j *Journal) Close() error { return j.guard.Close() }

func (j *Journal) path(m MoveID) string { return filepath.Join(j.dir, string(m)+journalSuffix) }

func (j *Journal) load() error {
	names, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), durable.TempPrefix) { // left by a crash; under the lock no agent writes it
			if err := os.Remove(filepath.Join(j.dir, n.Name())); err != nil {
				return err
			}
			continue
		}
		j.loadFile(n)
	}
	return durable.SyncDir(j.dir)
}

// loadMove reads one file and makes sure that what it read is on the disk: an agent may have died
// between write and fsync, and its successor must not act on what a power cut could still undo.
func (j *Journal) loadMove(m MoveID) *entry {
	data, err := readSynced(j.path(m))
	if err != nil {
		return &entry{damage: fmt.Errorf("journal of move %s: %w: %w", m, err, ErrDamaged)}
	}
	records, lines, torn, damage := decodeFile(m, data)
	e := &entry{lines: lines, damage: damage}
	if damage != nil {
		e.job = jobOf(m, data)
		return e
	}
	e.last = records[len(records)-1]
	if torn && j.disk.Replace(j.path(m), content(lines)) != nil {
		e.unsure = true
	}
	return e
}

func readSynced(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	if info.Size() > MaxJournalFile {
		return nil, fmt.Errorf("%s has %d bytes, above %d", path, info.Size(), MaxJournalFile)
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data[:n], err
}

func content(lines [][]byte) []byte {
	var all []byte
	for _, l := range lines {
		all = append(append(all, l...), '\n')
	}
	return all
}

// Append writes the next record of a move and returns when it is on the disk. After a plain error
// it is proven not to be there; one that wraps ErrUnsure leaves that open. The first record of a
// move is refused with ErrBusy while another move of the job is unfinished on this node, because
// recovering that one could thaw or kill what this one relies on, and with ErrGuarded while one that
// cannot be read may be about the job.
func (j *Journal) Append(r Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(r)
}

func (j *Journal) append(r Record) error {
	r.At = time.Now()
	line, err := encodeLine(r)
	if err != nil {
		return err
	}
	e, err := j.admit(r)
	if err != nil {
		return fmt.Errorf("record move %s %s: %w", r.Move, r.State, err)
	}
	if err := j.write(r.Move, e, line); err != nil {
		return fmt.Errorf("record move %s %s: %w", r.Move, r.State, err)
	}
	e.last, e.lines, e.unsure = r, append(e.lines, line), false
	j.moves[r.Move] = e
	return nil
}

func (j *Journal) admit(r Record) (*entry, error) {
	if e, ok := j.moves[r.Move]; ok {
		if e.damage != nil {
			return nil, e.damage
		}
		return e, follows(r.Move, []Record{e.last}, r)
	}
	if err := j.guarded(r.Job, r.Since); err != nil {
		return nil, err
	}
	if j.aside[r.Move] {
		return nil, asideError(r.Move)
	}
	for move, e := range j.moves {
		if e.damage == nil && e.last.Job == r.Job && e.open() && !j.repair(move, e) {
			return nil, fmt.Errorf("move %s: %w", move, ErrBusy)
		}
	}
	return &entry{last: r}, nil
}

// write appends line, or writes the whole file anew when it is not known what it holds.
func (j *Journal) write(m MoveID, e *entry, line []byte) error {
	path := j.path(m)
	if e.unsure {
		if err := j.disk.Replace(path, content(append(slices.Clip(e.lines), line))); err != nil {
			return errors.Join(err, ErrUnsure)
		}
		return nil
	}
	put := j.disk.Append
	if len(e.lines) == 0 { // whole or not at all: a file without a first record is damaged
		put = func(path string, line []byte) error { return j.disk.Replace(path, content([][]byte{line})) }
	}
	err := put(path, line)
	if err == nil {
		return nil
	}
	if undo := j.undo(path, e.lines); undo != nil {
		e.unsure = true
		j.moves[m] = e
		return errors.Join(err, undo, ErrUnsure)
	}
	return err
}

func (j *Journal) undo(path string, lines [][]byte) error {
	if len(lines) > 0 {
		return j.disk.Replace(path, content(lines))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(j.dir)
}

// repair tries to find out about a file that is not known, by writing it without the
// record that may be in it: nothing has followed from that one. It tells whether the
// move turned out never to have begun.
func (j *Journal) repair(m MoveID, e *entry) (never bool) {
	if !e.unsure || e.damage != nil {
		return false
	}
	if err := j.undo(j.path(m), e.lines); err != nil {
		return false
	}
	e.unsure = false
	if len(e.lines) == 0 {
		delete(j.moves, m)
	}
	return len(e.lines) == 0
}
