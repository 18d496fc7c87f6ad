package checkpoint

import (
	"context"
	"fmt"
	"io"

	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/criu/image"
)

// PreCopy is one warm-up round. It sends the memory, private and shared, that is new or has
// changed since the round before. The job may do anything meanwhile; none of it is an error.
func (s *Source) PreCopy(ctx context.Context, lanes []io.Writer) (scan.Round, error) {
	m, err := s.memoryOn(lanes)
	if err != nil {
		return scan.Round{}, err
	}
	tasks, err := s.tasks()
	if err != nil {
		return scan.Round{}, fmt.Errorf("warm-up: %w", err)
	}
	m.preferSize = !m.begun // the first round is nearly everything, and adds nothing to the downtime
	m.begun = true
	round, err := m.pass(func(sinks []scan.Sink) (scan.Round, error) { return m.pages.PreCopy(ctx, tasks, sinks) })
	if err != nil {
		return round, err
	}
	resources, err := s.resources().warm(ctx, lanes[0], tasks)
	round.Add(resources)
	return round, err
}

// Tracking is how changes of memory are found, "soft-dirty" or "hash"; "" before anything was
// sent.
func (s *Source) Tracking() string {
	if s.memory == nil {
		return ""
	}
	return s.memory.pages.Tracking()
}

// Puller reads the memory that the target asks for, of a dumped job that is still frozen.
func (s *Source) Puller() (*scan.Puller, error) {
	regions, err := image.Pagemaps(s.Images())
	if err != nil {
		return nil, err
	}
	tasks, err := s.tasks()
	if err != nil {
		return nil, err
	}
	return scan.NewPuller(tasks, regions), nil
}
