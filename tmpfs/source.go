package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Source is a tmpfs of a job that is being sent. Its methods are for one goroutine,
// unless they say otherwise.
type Source struct {
	// Target is where the job has it mounted.
	Target  string
	Options Options

	files   *Files
	root    *os.File
	entries []Entry
	noted   []*file // those of the entries that have content
}

// Open takes hold of the tmpfs that the job of PID 1 pid has mounted at target.
// mount and options are its number and its options in mountinfo.
func Open(pid int, target, mount, options string) (*Source, error) {
	o, err := ParseOptions(options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	root, err := open(pid, target, mount)
	if err != nil {
		return nil, err
	}
	return newSource(target, o, root), nil
}

func newSource(target string, o Options, root *os.File) *Source {
	return &Source{Target: target, Options: o, root: root, files: NewFiles()}
}

// Close lets go of the file system.
func (s *Source) Close() error { return s.root.Close() }

// Send is one round: it sends what has changed in the files since the one before.
// A file that vanishes or shrinks meanwhile is none. Note may be called meanwhile.
func (s *Source) Send(ctx context.Context, out Sink) (Stats, error) {
	stats, err := s.files.round(ctx, out, func(c *workers) error {
		return s.walk(ctx, false, func(e found) error {
			if e.kind() != unix.S_IFREG {
				return nil
			}
			return s.look(c, e)
		})
	})
	if err != nil {
		return stats, fmt.Errorf("send %s: %w", s.Target, err)
	}
	return stats, nil
}

func (s *Source) look(c *workers, e found) error {
	f := s.files.of(&e.st)
	if f.seen == s.files.rounds {
		return nil // by another name
	}
	data, err := e.open()
	if err != nil || data == nil {
		return notGone(err, false)
	}
	return s.files.look(c, f, data)
}

// notGone lets what vanished while the job ran be nothing.
func notGone(err error, frozen bool) error {
	if !frozen && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE)) {
		return nil
	}
	return err
}
