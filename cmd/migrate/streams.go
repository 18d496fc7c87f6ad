package main

import (
	"errors"
	"io"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/printable"
)

// streams are where standard output and error go.
type streams struct {
	out, err io.Writer
	safe     []*printable.Writer // of these two
}

// guarded writes to a stream what a terminal shows, and nothing that it would obey.
func (s *streams) guarded(w io.Writer) io.Writer {
	safe := printable.NewWriter(w)
	s.safe = append(s.safe, safe)
	return safe
}

// flush ends what was written.
func (s *streams) flush() error {
	var errs []error
	for _, w := range s.safe {
		errs = append(errs, w.Flush())
	}
	return errors.Join(errs...)
}

// guard has all that a command prints pass one place, where it loses what a terminal would obey.
// What does not is written to s.raw: a job's own bytes, and what we draw.
func (s *shell) guard() *streams {
	if s.raw.out == nil {
		s.raw = streams{out: s.out, err: s.err}
	}
	var safe streams
	s.out, s.err = safe.guarded(s.raw.out), safe.guarded(s.raw.err)
	return &safe
}

// carry is where the bytes of a user's job go: as they are, as those of any program do, unless it
// is another user's and a person looks at them, who may be root.
func (s *shell) carry(uid uint32) *streams {
	to := s.raw
	if int64(uid) == int64(s.uid) {
		return &to
	}
	if s.screen {
		to.out = to.guarded(to.out)
	}
	if s.terminal {
		to.err = to.guarded(to.err)
	}
	return &to
}

// ownerOf asks whose a job is, where that matters for carry: nobody but root gets to see
// another user's.
func (s *shell) ownerOf(inspect func() (api.Job, error)) (uint32, error) {
	if s.uid != 0 || !s.screen && !s.terminal {
		return uint32(s.uid), nil
	}
	j, err := inspect()
	return j.Spec.UID, err
}
