package threads

import (
	"context"
	"fmt"

	"github.com/migrate-hpc/migrate/carry"
)

type source struct {
	carry.NoSource
	job  carry.Job
	done chan struct{} // closed when the look has ended; nil: none has begun
	saw  record
	err  error
}

// NewSource is the half of the node that a job leaves.
func NewSource(j carry.Job) carry.Source { return &source{job: j} }

// Freeze begins to look. That goes on while CRIU works: it changes nothing of what is looked at.
func (s *source) Freeze(context.Context) (external []string, err error) {
	s.wait()
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.saw, s.err = look(s.job.Init)
	}()
	return nil, nil
}

// FixImages keeps what was seen.
func (s *source) FixImages() error {
	s.wait()
	if s.err != nil {
		return fmt.Errorf("attributes of the job's threads: %w", s.err)
	}
	if s.saw.empty() {
		return nil
	}
	s.saw.Affinity = s.job.Affinity
	return write(s.job.Images, s.saw)
}

// Close waits for the look.
func (s *source) Close() error {
	s.wait()
	return nil
}

func (s *source) wait() {
	if s.done != nil {
		<-s.done
	}
}
