package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// OpenOutput opens one of a job's output files as root, without trusting the job. The file must be
// regular and have one name only. OpenOutput never waits.
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

// output is what the target has of the job's output files, by name.
type output map[string]outputSent

// outputSent is what the target has of a file.
type outputSent struct {
	size  int64
	sum   xxh3.Uint128  // of the bytes: a job may cut its output and write it anew
	ctime unix.Timespec // when the file had last changed; zero if that was just before
}

// Output sends the part of the job's output files that was not sent yet, on the first lane. It is
// called while the job runs, and again when it is frozen. The second call has little left to send.
// It reads again what it has sent of files that have changed.
func (s *Source) Output(ctx context.Context, lanes []io.Writer) (int64, error) {
	entries, err := os.ReadDir(s.IODir)
	if err != nil {
		return 0, err
	}
	if s.output == nil {
		s.output = output{}
	}
	var total int64
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return total, context.Cause(ctx)
		}
		n, err := s.output.send(lanes[0], s.IODir, e.Name())
		total += n
		if err != nil {
			return total, fmt.Errorf("send output %s: %w", e.Name(), err)
		}
	}
	return total, nil
}

func (o output) send(w io.Writer, dir, name string) (n int64, err error) {
	looked := time.Now()
	f, st, err := OpenOutput(dir, name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	before, seen := o[name]
	if seen && before.ctime != (unix.Timespec{}) && before.ctime == st.Ctim {
		return 0, nil
	}
	sum := xxh3.New()
	from, err := before.matches(f, sum)
	if err != nil {
		return 0, err
	}
	sent := outputSent{size: from}
	if looked.Sub(time.Unix(st.Ctim.Unix())) > ctimeSlack {
		sent.ctime = st.Ctim
	}
	if !seen || st.Size != from || from != before.size {
		if n, err = sendRange(w, f, st, from, sum); err != nil {
			return n, err
		}
	}
	sent.size, sent.sum = from+n, sum.Sum128()
	o[name] = sent
	return n, nil
}

// ctimeSlack is far longer than the granularity of file times in the kernel.
const ctimeSlack = time.Second

// matches returns the size of the sent part of a file, and adds it to sum. If the file has changed
// there, it returns 0.
func (o outputSent) matches(f *os.File, sum *xxh3.Hasher) (int64, error) {
	n, err := io.Copy(sum, io.NewSectionReader(f, 0, o.size))
	if err == nil && n == o.size && sum.Sum128() == o.sum {
		return n, nil
	}
	sum.Reset()
	return 0, err
}

// sendRange sends the end of a file.
func sendRange(w io.Writer, f *os.File, st unix.Stat_t, from int64, sum io.Writer) (int64, error) {
	head, err := json.Marshal(stream.FileRange{Name: f.Name(), Offset: from, Mode: st.Mode & 0o777, UID: st.Uid, GID: st.Gid})
	if err != nil {
		return 0, err
	}
	out := stream.NewWriter(w, stream.KindFile)
	if err := out.WriteFrame(head); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.MultiWriter(out, sum), io.NewSectionReader(f, from, st.Size-from))
	return n, errors.Join(err, out.Close())
}
