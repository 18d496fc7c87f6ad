package segments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/tmpfs"
)

type source struct {
	carry.NoSource
	files *tmpfs.Files
}

// NewSource is the half of the node that a job leaves. The job's tasks say where its segments are.
func NewSource(carry.Job) carry.Source { return &source{files: tmpfs.NewFiles()} }

// Warm sends what has changed in the segments since the last time.
func (s *source) Warm(ctx context.Context, lane io.Writer, tasks []carry.Task) (carry.Round, error) {
	out := stream.NewWriter(lane, stream.KindPages)
	return carry.Count(out, func() (looked, changed int64, err error) {
		stats, err := s.files.Send(ctx, pageWriter{out}, func(look func(*os.File) error) error {
			return eachSegment(ctx, tasks, look)
		})
		return stats.Looked, stats.Changed, err
	})
}

// LastRound sends nothing: CRIU writes the segments into its images. It makes FindPage fast.
func (s *source) LastRound(context.Context, io.Writer) (carry.Round, error) {
	s.files.Index()
	return carry.Round{}, nil
}

// Empty tells that no segment was sent.
func (s *source) Empty() bool { return s.files.Empty() }

// FindPage finds a page as memory of a process that there is not.
func (s *source) FindPage(page []byte) (stream.Place, bool) {
	at, ok := s.files.Find(page)
	return stream.Place{VPID: stream.FirstShared + stream.VPID(at.File), Addr: uint64(at.Offset)}, ok
}

// pageWriter sends page frames of package tmpfs as frames of memory. A file without a name becomes
// a process number that no process has.
type pageWriter struct{ out *stream.Writer }

// maxSegment is more pages than a file in memory can have.
const maxSegment = 1 << 31

func (a pageWriter) WriteFrame(frame []byte) error {
	batch := make([]byte, 0, len(frame))
	err := tmpfs.EachRun(frame, func(at tmpfs.Place, n int64, data []byte) error {
		vpid := stream.FirstShared + stream.VPID(at.File)
		switch {
		case at.File >= maxSegment-uint64(stream.FirstShared):
			return fmt.Errorf("more than %d segments of shared memory", maxSegment-int64(stream.FirstShared))
		case n == 0:
			batch = stream.AppendDrop(batch, vpid, 0, maxSegment)
		case data == nil:
			batch = stream.AppendDrop(batch, vpid, uint64(at.Offset), n)
		default:
			batch = stream.AppendRun(batch, vpid, uint64(at.Offset), data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.out.WriteFrame(batch)
}

// eachSegment opens the files in memory that tasks have mapped or open and that have no
// name any more, each at least once. Tasks and mappings that vanish meanwhile are none.
func eachSegment(ctx context.Context, tasks []carry.Task, look func(*os.File) error) error {
	found := &segmentFinder{look: look, seen: map[[2]uint64]bool{}, lines: map[string]bool{}}
	for _, t := range tasks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := found.inTask(t); err != nil {
			return fmt.Errorf("shared memory of process %d: %w", t.VPID, err)
		}
	}
	return nil
}

type segmentFinder struct {
	process *pidmap.Hold // of the task
	look    func(*os.File) error
	seen    map[[2]uint64]bool // device and inode
	lines   map[string]bool    // the same, as maps has them
}

func (s *segmentFinder) inTask(t carry.Task) (err error) {
	if s.process, err = pidmap.Take(t.PID, t.Began); err != nil {
		return ignoreGone(err)
	}
	defer s.process.Close()
	return errors.Join(s.mapped(t.PID), s.opened(t.PID))
}

func (s *segmentFinder) mapped(pid int) error {
	for m, err := range procfs.Maps(fmt.Sprintf("/proc/%d/maps", pid)) {
		if err != nil {
			return ignoreGone(err)
		}
		line := m.Device + " " + m.Inode
		if !strings.HasSuffix(m.Name, procfs.Deleted) || s.lines[line] {
			continue
		}
		s.lines[line] = true
		if err := s.visit(fmt.Sprintf("/proc/%d/map_files/%s", pid, m.Link())); err != nil {
			return err
		}
	}
	return nil
}

func (s *segmentFinder) opened(pid int) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(path); err != nil || !strings.HasSuffix(to, procfs.Deleted) {
			continue
		}
		if err := s.visit(path); err != nil {
			return err
		}
	}
	return nil
}

// visit opens the file of a magic link of /proc. It skips a file that is not deleted, not in
// memory, not regular, or was visited before.
func (s *segmentFinder) visit(link string) error {
	var st unix.Stat_t
	if err := unix.Stat(link, &st); err != nil {
		return ignoreGone(err)
	}
	key := [2]uint64{st.Dev, st.Ino}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 0 || s.seen[key] {
		return nil
	}
	s.seen[key] = true
	var fs unix.Statfs_t
	if err := unix.Statfs(link, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		return ignoreGone(err)
	}
	fd, err := unix.Open(link, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return ignoreGone(err)
	}
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil || now.Dev != st.Dev || now.Ino != st.Ino {
		return errors.Join(err, unix.Close(fd)) // the number leads elsewhere by now
	}
	if s.process.Alive() != nil { // and so may that of the process
		return unix.Close(fd)
	}
	return s.look(os.NewFile(uintptr(fd), link))
}

// ignoreGone ignores errors for what a running job has given up meanwhile.
func ignoreGone(err error) error {
	for _, gone := range []error{unix.ENOENT, unix.ESRCH, unix.EACCES, unix.EPERM} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}
