package privatetmpfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/tmpfs"
)

type source struct {
	carry.NoSource
	job    carry.Job
	mounts []*tmpfs.Source // nil: not opened yet
}

// NewSource is the half of the node that a job leaves.
func NewSource(j carry.Job) carry.Source { return &source{job: j} }

// open opens the job's private file systems, which CRIU leaves out.
func (s *source) open() error {
	if s.mounts != nil {
		return nil
	}
	found, err := find(s.job.Init)
	if err == nil {
		err = s.job.CheckNamespaces() // or they are others: of the node, bound there
	}
	s.mounts = found
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// find opens them. It skips those that the job has unmounted.
func find(init int) (found []*tmpfs.Source, err error) {
	found = []*tmpfs.Source{}
	table, err := procfs.MountTable(init)
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
		t, err := tmpfs.Open(init, m.Target, m.ID, m.SuperOptions)
		if err != nil {
			return found, err
		}
		found = append(found, t)
	}
	return found, nil
}

// Close closes them.
func (s *source) Close() error {
	var errs []error
	for _, t := range s.mounts {
		errs = append(errs, t.Close())
	}
	s.mounts = nil
	return errors.Join(errs...)
}

// Warm sends what has changed in their files since the last time.
func (s *source) Warm(ctx context.Context, lane io.Writer, _ []carry.Task) (carry.Round, error) {
	if err := s.open(); err != nil {
		return carry.Round{}, err
	}
	return s.round(ctx, lane)
}

// Freeze opens them if there was no warm-up.
func (s *source) Freeze(context.Context) ([]string, error) { return nil, s.open() }

// LastRound is as one of the warm-up, over files that stand still.
func (s *source) LastRound(ctx context.Context, lane io.Writer) (carry.Round, error) {
	return s.round(ctx, lane)
}

func (s *source) round(ctx context.Context, lane io.Writer) (round carry.Round, err error) {
	for _, t := range s.mounts {
		r, err := send(ctx, lane, t)
		round.Add(r)
		if err != nil {
			return round, err
		}
	}
	return round, nil
}

func send(ctx context.Context, lane io.Writer, t *tmpfs.Source) (carry.Round, error) {
	out, err := openStream(lane, stream.KindTmpfsPages, t)
	if err != nil {
		return carry.Round{}, err
	}
	return carry.Count(out, func() (looked, changed int64, err error) {
		stats, err := t.Send(ctx, out)
		return stats.Looked, stats.Changed, err
	})
}

// Snapshot notes what is in them. At this moment CRIU has given names to files that had lost
// theirs.
func (s *source) Snapshot(ctx context.Context) error {
	for _, t := range s.mounts {
		if err := t.Note(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Send sends names and attributes.
func (s *source) Send(lane io.Writer) error {
	for _, t := range s.mounts {
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
