package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
	"github.com/migrate-hpc/migrate/transport"
)

// OpenOutput opens one of a job's output files as root, without trusting the job:
// it must be a regular file with this one name, and nothing is waited for.
func OpenOutput(dir, name string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, st, errors.Join(err, f.Close())
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return nil, st, errors.Join(fmt.Errorf("%s is no plain file of the job's own", name), f.Close())
	}
	return f, st, nil
}

// Output sends the job's output files as far as they have not been sent yet, on
// the first lane. Once while the job runs and once frozen, the second time has
// little left to do.
func (s *Source) Output(ctx context.Context, lanes []io.Writer) (int64, error) {
	entries, err := os.ReadDir(s.IODir)
	if err != nil {
		return 0, err
	}
	if s.sizes == nil {
		s.sizes = map[string]int64{}
	}
	var total int64
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return total, context.Cause(ctx)
		}
		n, err := s.sendFile(lanes[0], e.Name())
		total += n
		if err != nil {
			return total, fmt.Errorf("send output %s: %w", e.Name(), err)
		}
	}
	return total, nil
}

func (s *Source) sendFile(w io.Writer, name string) (n int64, err error) {
	f, st, err := OpenOutput(s.IODir, name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	from, seen := s.sizes[name]
	if st.Size < from {
		from = 0 // the job cut its own output
	} else if seen && st.Size == from {
		return 0, nil
	}
	head, err := json.Marshal(image.FileRange{Name: name, Offset: from, Mode: st.Mode & 0o777, UID: st.Uid, GID: st.Gid})
	if err != nil {
		return 0, err
	}
	out := transport.NewStreamWriter(w, image.KindFile)
	if err := out.WriteFrame(head); err != nil {
		return 0, err
	}
	n, err = io.Copy(out, io.NewSectionReader(f, from, st.Size-from))
	s.sizes[name] = from + n
	return n, errors.Join(err, out.Close())
}
