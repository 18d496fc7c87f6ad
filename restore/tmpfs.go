package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// of finds or makes the file system of a stream.
func (p *private) of(h stream.TmpfsHead) (*tmpfs.Target, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.mounts[h.Mount]; t != nil {
		return t, nil
	}
	t, err := tmpfs.New(h.Mount, h.Options)
	if err != nil {
		return nil, err
	}
	if p.mounts == nil {
		p.mounts = map[string]*tmpfs.Target{}
	}
	p.mounts[h.Mount] = t
	return t, nil
}

func (p *private) finish() error {
	for mount, t := range p.mounts {
		if err := t.Finish(); err != nil {
			return fmt.Errorf("the job's %s: %w", mount, err)
		}
	}
	return nil
}

// PrivateMounts are the private file systems of a job that has arrived. At are their mount points
// in the job, mounts the detached mounts.
func (in *Receiver) PrivateMounts() (at []string, mounts []*os.File) {
	at = slices.Sorted(maps.Keys(in.private.mounts))
	for _, m := range at {
		mounts = append(mounts, in.private.mounts[m].File())
	}
	return at, mounts
}

// ClosePrivateMounts closes the private file systems. Those that are attached nowhere vanish.
func (in *Receiver) ClosePrivateMounts() error {
	var errs []error
	for _, t := range in.private.mounts {
		errs = append(errs, t.Close())
	}
	in.private.mounts = nil
	return errors.Join(errs...)
}

// tmpfs reads one stream of a private file system.
func (in *Receiver) tmpfs(s *stream.Reader) error {
	head, err := s.ReadFrame()
	if err != nil {
		return fmt.Errorf("private file system: %w", err)
	}
	var h stream.TmpfsHead
	if err := json.Unmarshal(head, &h); err != nil {
		return fmt.Errorf("private file system: %w", err)
	}
	t, err := in.private.of(h)
	if err != nil {
		return err
	}
	take := t.Names
	if s.Kind() == stream.KindTmpfsPages {
		take = t.Pages
	}
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		in.Received.Add(int64(len(frame)))
		if err := take(frame); err != nil {
			return fmt.Errorf("the job's %s: %w", h.Mount, err)
		}
	}
}
