package handoff

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/durable"
)

// Get returns the newest record of a move. It fails with ErrUnknownMove, ErrUnsure or ErrDamaged.
func (j *Journal) Get(m MoveID) (Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.get(m)
}

func (j *Journal) get(m MoveID) (Record, error) {
	e, ok := j.moves[m]
	switch {
	case j.aside[m]:
		return Record{}, asideError(m)
	case !ok || j.repair(m, e):
		return Record{}, fmt.Errorf("move %.40q: %w", m, ErrUnknownMove)
	case e.damage != nil:
		return Record{}, e.damage
	case e.unsure:
		return Record{}, fmt.Errorf("move %s: %w", m, ErrUnsure)
	}
	return e.last, nil
}

// Answer is what to tell the other node when it asks for the outcome of a move. A node that is not
// the other side of the move learns nothing. That a record is missing proves nothing either: the
// asker has one, so this journal has lost its own.
func (j *Journal) Answer(m MoveID, peer string) (State, error) {
	r, err := j.Get(m)
	if err != nil {
		return "", err
	}
	if r.Peer != peer {
		return "", fmt.Errorf("move %s, asked by %.80q: %w", m, peer, ErrUnknownMove)
	}
	if r.Role == RoleSource && r.Taken {
		return StateTaken, nil
	}
	if j.beingTaken(m) {
		return "", fmt.Errorf("move %s: %w", m, errOperatorDecides)
	}
	return r.State, nil
}

// History returns all records of a move, oldest first.
func (j *Journal) History(m MoveID) ([]Record, error) {
	if _, err := j.Get(m); err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.moves[m]
	if !ok {
		return nil, fmt.Errorf("move %s: %w", m, ErrUnknownMove)
	}
	records, _, _, err := decodeFile(m, content(e.lines))
	return records, err
}

// List returns the newest record of every move, oldest first, and an error that joins one per move
// whose record is damaged or not known. Both may be there.
func (j *Journal) List() ([]Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var records []Record
	var errs []error
	for m, e := range j.moves {
		switch {
		case j.repair(m, e):
		case e.damage != nil:
			errs = append(errs, e.damage)
		case e.unsure:
			errs = append(errs, fmt.Errorf("move %s: %w", m, ErrUnsure))
		default:
			records = append(records, e.last)
		}
	}
	for _, e := range j.foreign {
		errs = append(errs, e.damage)
	}
	slices.SortFunc(records, func(a, b Record) int { return a.At.Compare(b.At) })
	return records, errors.Join(errs...)
}

// Unfinished returns the records that recovery has to do with, like List.
func (j *Journal) Unfinished() ([]Record, error) {
	records, err := j.List()
	return slices.DeleteFunc(records, func(r Record) bool { return r.State.Finished() }), err
}

// PeerTold notes that the other node has heard of an operator's decision.
func (j *Journal) PeerTold(m MoveID) error {
	j.mu.Lock() // a record that came in between would be taken back
	defer j.mu.Unlock()
	r, err := j.get(m)
	if err != nil || !r.PeerToTell {
		return err
	}
	r.PeerToTell = false
	return j.append(r)
}

// Remove forgets a finished move. The peer must have finished it too: a source whose target no
// longer knows that it dropped the job cannot thaw it.
func (j *Journal) Remove(m MoveID) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.moves[m]
	if !ok {
		return nil
	}
	if e.open() {
		return fmt.Errorf("remove move %s, %s: %w", m, e.last.State, ErrUnfinished)
	}
	if err := os.Remove(j.path(m)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove move %s: %w", m, err)
	}
	delete(j.moves, m)
	return durable.SyncDir(j.dir)
}

// Prune removes the moves that were finished before a time. It should lie weeks back, longer than
// a peer may be away.
func (j *Journal) Prune(before time.Time) error {
	records, listErr := j.List()
	errs := []error{listErr}
	for _, r := range records {
		if r.State.Finished() && !r.PeerToTell && r.At.Before(before) {
			errs = append(errs, j.Remove(r.Move))
		}
	}
	return errors.Join(errs...)
}
