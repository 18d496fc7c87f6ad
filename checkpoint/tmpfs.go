package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// openPrivate opens the job's private file systems, which CRIU leaves out.
func (s *Source) openPrivate() error {
	if s.private != nil {
		return nil
	}
	found, err := s.findPrivate()
	if err == nil {
		err = s.checkNamespaces() // or they are others: of the node, bound there
	}
	s.private = found
	if err != nil {
		return errors.Join(err, s.closePrivate())
	}
	return nil
}

// findPrivate opens them. It skips those that the job has unmounted.
func (s *Source) findPrivate() (found []*tmpfs.Source, err error) {
	found = []*tmpfs.Source{}
	table, err := procfs.MountTable(s.Init)
	if err != nil {
		return found, err
	}
	for _, m := range table {
		if m.Type != "tmpfs" || m.Root != "/" || !slices.Contains(tmpfs.Dirs(), m.Target) {
			continue
		}
		if slices.ContainsFunc(found, func(t *tmpfs.Source) bool { return t.Target == m.Target }) {
			return found, fmt.Errorf("something else was mounted over %s", m.Target)
		}
		t, err := tmpfs.Open(s.Init, m.Target, m.ID, m.SuperOptions)
		if err != nil {
			return found, err
		}
		found = append(found, t)
	}
	return found, nil
}

// closePrivate closes them.
func (s *Source) closePrivate() error {
	var errs []error
	for _, t := range s.private {
		errs = append(errs, t.Close())
	}
	s.private = nil
	return errors.Join(errs...)
}

// sendPrivate sends what has changed in the private file systems since the last time.
func (s *Source) sendPrivate(ctx context.Context, lane io.Writer) (scan.Round, error) {
	var round scan.Round
	if err := s.openPrivate(); err != nil {
		return round, err
	}
	for _, t := range s.private {
		r, err := sendTmpfs(ctx, lane, t)
		round.Add(r)
		if err != nil {
			return round, err
		}
	}
	return round, nil
}

func sendTmpfs(ctx context.Context, lane io.Writer, t *tmpfs.Source) (scan.Round, error) {
	out, err := openStream(lane, stream.KindTmpfsPages, t)
	if err != nil {
		return scan.Round{}, err
	}
	return countedSend(out, func() (tmpfs.Stats, error) { return t.Send(ctx, out) })
}

// countedSend sends something on a stream, ends the stream, and counts as a pass over memory does.
func countedSend(out *stream.Writer, send func() (tmpfs.Stats, error)) (round scan.Round, err error) {
	osthread.Timed(func(clock *osthread.Clock) {
		began := time.Now()
		var stats tmpfs.Stats
		if stats, err = send(); err == nil {
			err = out.Close()
		}
		busy, took, sent := clock.Now(), time.Since(began), out.Stats()
		writing := min(busy, sent.Packing+sent.Writing)
		round = scan.Round{Present: stats.Looked, Compared: stats.Looked, Dirty: stats.Changed, Payload: sent.Payload, Wire: sent.Wire,
			Took: took, Reading: busy - writing, Writing: writing, Waiting: max(0, took-busy), Scanning: busy - writing}
	})
	return round, err
}

// snapshotPrivate notes what is in the private file systems. At this moment CRIU has given names
// to files that had lost theirs.
func (s *Source) snapshotPrivate(ctx context.Context) error {
	if err := s.openPrivate(); err != nil {
		return err
	}
	for _, t := range s.private {
		if err := t.Note(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) sendNames(lane io.Writer) error {
	for _, t := range s.private {
		out, err := openStream(lane, stream.KindTmpfsNames, t)
		if err != nil {
			return err
		}
		if err := errors.Join(t.Names(out), out.Close()); err != nil {
			return fmt.Errorf("send %s: %w", t.Target, err)
		}
	}
	return nil
}

// openStream begins a stream of a private file system.
func openStream(lane io.Writer, kind uint16, t *tmpfs.Source) (*stream.Writer, error) {
	head, err := json.Marshal(stream.TmpfsHead{Mount: t.Target, Options: t.Options})
	if err != nil {
		return nil, err
	}
	out := stream.NewWriter(lane, kind)
	if err := out.WriteFrame(head); err != nil {
		return nil, fmt.Errorf("send %s: %w", t.Target, err)
	}
	return out, nil
}
