package main

import (
	"errors"
	"io"

	"github.com/migrate-hpc/migrate/printable"
)

// streams are standard output and error.
type streams struct {
	out, err io.Writer
	escapers []*printable.Writer // in front of these two
}

// escaped is w without what a terminal would obey.
func (s *streams) escaped(w io.Writer) io.Writer {
	e := printable.NewWriter(w)
	s.escapers = append(s.escapers, e)
	return e
}

// flush writes what the escapers hold back: the beginning of a character.
func (s *streams) flush() error {
	var errs []error
	for _, w := range s.escapers {
		errs = append(errs, w.Flush())
	}
	return errors.Join(errs...)
}
