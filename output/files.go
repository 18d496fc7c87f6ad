package output

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Names are a job's output files in their directory.
var Names = [2]string{"stdout", "stderr"}

// Files are the output of one job. The directory is root's; it may be renamed while it
// is open.
type Files struct{ dir int }

// Open takes hold of the directory of a job's output.
func Open(dir string) (*Files, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the job's output: %w", err)
	}
	return &Files{dir: fd}, nil
}

// Close lets go of it.
func (f *Files) Close() error { return unix.Close(f.dir) }

// Sizes are what each file takes; one that is not there takes nothing. A file with
// holes counts in full: it is read and sent in full.
func (f *Files) Sizes() (sizes [len(Names)]int64, err error) {
	var errs []error
	for i, name := range Names {
		var st unix.Stat_t
		err := unix.Fstatat(f.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			err = unix.EINVAL
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("look at the job's %s: %w", name, err))
			continue
		}
		sizes[i] = taken(&st)
	}
	return sizes, errors.Join(errs...)
}

// taken is what a file takes: its length, or the blocks that it has far beyond that.
func taken(st *unix.Stat_t) int64 {
	const block = 512 // of st_blocks, whatever the file system's
	if blocks := st.Blocks * block; blocks > 2*st.Size+sloppy {
		return blocks
	}
	return st.Size
}

// sloppy and as much again as a file has is what file systems give it beyond its end by
// themselves: the rest of its last block, the blocks that say where it lies, room that is
// taken ahead (xfs(5), allocsize).
const sloppy = 1 << 20

// Room is what the file system has left for users, and all that it has.
func (f *Files) Room() (Room, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(f.dir, &st); err != nil {
		return Room{}, fmt.Errorf("room for the job's output: %w", err)
	}
	return roomOf(&st), nil
}

// Cut shortens each file to at most so many bytes, and gives back what it has beyond
// its end.
func (f *Files) Cut(most [len(Names)]int64) error {
	sizes, err := f.Sizes()
	errs := []error{err}
	for i, name := range Names {
		if sizes[i] <= most[i] {
			continue
		}
		if err := f.cut(name, most[i]); err != nil {
			errs = append(errs, fmt.Errorf("cut the job's %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (f *Files) cut(name string, most int64) error {
	fd, err := unix.Openat(f.dir, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	end := min(st.Size, most)
	if err := unix.Ftruncate(fd, end); err != nil {
		return err
	}
	err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, end, math.MaxInt64-end)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EINVAL) {
		return nil // nothing lies beyond the end where nothing can be put there
	}
	return err
}
