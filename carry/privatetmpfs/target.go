package privatetmpfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// receiver has the file systems while they are built, by their mount point in the job.
type receiver struct {
	mu     sync.Mutex
	mounts map[string]*tmpfs.Target
}

// NewReceiver is the half of the agent to which a job comes.
func NewReceiver() carry.Receiver { return &receiver{} }

// of finds or makes the file system of a stream.
func (r *receiver) of(h stream.TmpfsHead) (*tmpfs.Target, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.mounts[h.Mount]; t != nil {
		return t, nil
	}
	t, err := tmpfs.New(h.Mount, h.Options)
	if err != nil {
		return nil, err
	}
	if r.mounts == nil {
		r.mounts = map[string]*tmpfs.Target{}
	}
	r.mounts[h.Mount] = t
	return t, nil
}

// Complete gives all files their names.
func (r *receiver) Complete() error {
	for mount, t := range r.mounts {
		if err := t.Finish(); err != nil {
			return fmt.Errorf("the job's %s: %w", mount, err)
		}
	}
	return nil
}

// Mounts are the file systems, by where the job has them.
func (r *receiver) Mounts() map[string]*os.File {
	mounts := map[string]*os.File{}
	for at, t := range r.mounts {
		mounts[at] = t.File()
	}
	return mounts
}

// Close closes the file systems. Those that are attached nowhere vanish.
func (r *receiver) Close() error {
	var errs []error
	for _, t := range r.mounts {
		errs = append(errs, t.Close())
	}
	r.mounts = nil
	return errors.Join(errs...)
}

// Kinds are content, and everything else.
func (r *receiver) Kinds() []uint16 { return []uint16{stream.KindTmpfsPages, stream.KindTmpfsNames} }

// Read reads one stream of a private file system.
func (r *receiver) Read(s *stream.Reader, count func(int)) error {
	head, err := s.ReadFrame()
	if err != nil {
		return fmt.Errorf("private file system: %w", err)
	}
	var h stream.TmpfsHead
	if err := json.Unmarshal(head, &h); err != nil {
		return fmt.Errorf("private file system: %w", err)
	}
	t, err := r.of(h)
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
		count(len(frame))
		if err := take(frame); err != nil {
			return fmt.Errorf("the job's %s: %w", h.Mount, err)
		}
	}
}
