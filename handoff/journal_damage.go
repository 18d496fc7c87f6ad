package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/durable"
)

// ErrGuarded says that a journal of this node which cannot be read may say that the job is
// elsewhere. Until an operator has found out, nothing of the job is frozen, thawed or received here.
var ErrGuarded = errors.New("until somebody has looked on all nodes, nobody knows where the job is")

// ErrAside says that an operator has set the damaged journal of a move aside.
var ErrAside = errors.New("an operator has set its journal aside")

// asideMark and a number end the name of a file that an operator has set aside.
const asideMark = ".aside-"

func isAside(name string) (file string, ok bool) {
	file, number, ok := strings.Cut(name, asideMark)
	return file, ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// Damage is a file of the journal that cannot be read, or whose content is unsure.
type Damage struct {
	Name    string // of the move, or of the file if that is the name of no move
	Path    string
	Job     string // "" if that is not known
	Changed time.Time
	Err     error
}

// loadFile takes over one file. What cannot be read stays, and guards the jobs that it may be about.
func (j *Journal) loadFile(n fs.DirEntry) {
	file, aside := isAside(n.Name())
	base, isJournal := strings.CutSuffix(file, journalSuffix)
	move, err := ParseMoveID(base)
	switch {
	case aside:
		if isJournal && err == nil {
			j.aside[move] = true
		}
	case isJournal && err == nil:
		e := j.loadMove(move)
		e.changed = changed(j.path(move))
		j.moves[move] = e
	case n.IsDir() && !isJournal: // lost+found
	default:
		path := filepath.Join(j.dir, n.Name())
		data, err := readSynced(path)
		if err == nil {
			err = errors.New("its name is that of no move")
		}
		j.foreign[n.Name()] = &entry{damage: fmt.Errorf("%s: %w: %w", path, err, ErrDamaged), job: jobOf("", data), changed: changed(path)}
	}
}

// changed is the latest time that a file may have got its content; that of which the kernel tells
// nothing may have got it just now.
func changed(path string) time.Time {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return time.Now()
	}
	written, touched := time.Unix(st.Mtim.Unix()), time.Unix(st.Ctim.Unix())
	if written.After(touched) {
		return written
	}
	return touched
}

// Guard fails if a file that cannot be read may be about a job: the file names the job, or names none
// and has changed after since. Before since no move of the job can have left a record here. The error
// wraps ErrGuarded.
func (j *Journal) Guard(job string, since time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.guarded(job, since)
}

func (j *Journal) guarded(job string, since time.Time) error {
	guards := func(e *entry) bool {
		return e.damage != nil && (e.job == job || e.job == "" && !e.changed.Before(since))
	}
	for _, e := range j.moves {
		if guards(e) {
			return fmt.Errorf("%w: %w", e.damage, ErrGuarded)
		}
	}
	for _, e := range j.foreign {
		if guards(e) {
			return fmt.Errorf("%w: %w", e.damage, ErrGuarded)
		}
	}
	return nil
}

// Damaged returns the files that cannot be read, and those whose content is unsure.
func (j *Journal) Damaged() (all []Damage) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for m, e := range j.moves {
		switch {
		case e.damage != nil:
			all = append(all, Damage{string(m), j.path(m), e.job, e.changed, e.damage})
		case e.unsure:
			all = append(all, Damage{string(m), j.path(m), e.last.Job, e.changed, ErrUnsure})
		}
	}
	for name, e := range j.foreign {
		all = append(all, Damage{name, filepath.Join(j.dir, name), e.job, e.changed, e.damage})
	}
	return all
}

// SetAside ends the guard of a damaged file, because an operator has found out where its job is. The
// file stays, under the path that is returned. The move stays undecided: this node still tells no
// peer how it ended.
func (j *Journal) SetAside(name string) (path string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	move, file := MoveID(name), name
	e := j.foreign[name]
	if e == nil {
		e, file = j.moves[move], name+journalSuffix
	}
	if e == nil || e.damage == nil {
		return "", fmt.Errorf("%.80q: %w", name, ErrUnknownMove)
	}
	for n := 1; ; n++ {
		path = filepath.Join(j.dir, fmt.Sprintf("%s%s%d", file, asideMark, n))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
	}
	//house:allow os.Rename: no new content, and the directory is synced below
	if err := os.Rename(filepath.Join(j.dir, file), path); err != nil {
		return "", err
	}
	if j.moves[move] == e {
		j.aside[move] = true
		delete(j.moves, move)
	}
	delete(j.foreign, name)
	return path, durable.SyncDir(j.dir)
}

func asideError(m MoveID) error {
	return fmt.Errorf("move %s: %w: %w", m, ErrAside, ErrDamaged)
}
