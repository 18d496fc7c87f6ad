package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// maxDepth bounds how deep directories are nested, and with it how many are open at
// a time.
const maxDepth = 512

// mostEntries is for tests to lower.
var mostEntries = maxEntries

var errTooMany = errors.New("it holds more files than can be carried")

// found is something in the file system: name in the open directory dir.
type found struct {
	dir  *os.File
	name string
	path string // from the root, "" for the root itself
	st   unix.Statx_t
}

func (e found) kind() uint32 { return uint32(e.st.Mode) & unix.S_IFMT }

// walk calls fn for everything there is, directories before what is in them. What we keep of
// each file is our memory and not the job's, so that there is an end to it.
func (s *Source) walk(ctx context.Context, frozen bool, do func(found) error) error {
	n := 0
	w := walker{frozen, func(e found) error {
		if n++; n > mostEntries {
			return fmt.Errorf("%w: above %d", errTooMany, mostEntries)
		}
		return do(e)
	}}
	st, err := statx(s.root, "")
	if err != nil {
		return err
	}
	if err := w.do(found{dir: s.root, st: st}); err != nil {
		return err
	}
	dir, err := openAt(s.root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return w.descend(ctx, dir, "", 0)
}

// walker is what a walk has in every directory.
type walker struct {
	frozen bool // nothing goes while it walks
	do     func(found) error
}

// descend goes through an open directory and closes it.
func (w walker) descend(ctx context.Context, dir *os.File, at string, depth int) error {
	defer dir.Close()
	if depth > maxDepth {
		return fmt.Errorf("directories are nested deeper than %d levels: %.80q…", maxDepth, at)
	}
	for {
		names, err := dir.Readdirnames(namesAtOnce)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return notGone(err, w.frozen)
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if err := w.visit(ctx, dir, at, name, depth); err != nil {
				return err
			}
		}
	}
}

// namesAtOnce bounds what is known of a directory at a time, however much is in it.
const namesAtOnce = 4096

func (w walker) visit(ctx context.Context, dir *os.File, at, name string, depth int) error {
	st, err := statx(dir, name)
	if err != nil {
		return notGone(err, w.frozen)
	}
	e := found{dir, name, path.Join(at, name), st}
	if err := w.do(e); errors.Is(err, errTooMany) {
		return err
	} else if err != nil {
		return fmt.Errorf("%s: %w", e.path, err)
	}
	if e.kind() != unix.S_IFDIR {
		return nil
	}
	sub, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) && !w.frozen {
		return nil // it was one a moment ago
	}
	if err != nil {
		return notGone(err, w.frozen)
	}
	return w.descend(ctx, sub, e.path, depth+1)
}

// open opens a regular file for reading. It returns nil if the name means something
// else by now.
func (e found) open() (*os.File, error) {
	f, err := openAt(e.dir, e.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EACCES) { // a link, a socket, a device
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st, err := statx(f, "")
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if st.Ino != e.st.Ino || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, f.Close()
	}
	return f, nil
}

// openAt opens one name in a directory, follows nothing and leaves no trace in the
// time of the last access.
func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NOATIME
	}
	return linux.OpenFile(int(dir.Fd()), name, uint64(flags|unix.O_NOFOLLOW), linux.Beneath)
}

// statx looks at a name in a directory without following it; "" is the file itself.
func statx(dir *os.File, name string) (st unix.Statx_t, err error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return linux.Statx(int(dir.Fd()), name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME)
}
