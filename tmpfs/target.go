package tmpfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// Target is a tmpfs that is being built. Its methods may be called concurrently.
type Target struct {
	options Options
	root    *os.File
	stage   *os.File // the files that have no name yet, by number
	where   string   // its name

	mu      sync.Mutex
	entries []Entry
	names   int64 // bytes of name frames
	done    bool
}

// New mounts a tmpfs for one of Dirs, attached nowhere.
func New(dir string, o Options) (*Target, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	root, err := detached(dir, o.roomy())
	if err != nil {
		return nil, err
	}
	t := &Target{options: o, root: root}
	if err := t.openStage(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return t, nil
}

// roomy are the options while the tree is built: a file that the job has removed may
// still be there beside those that it has made since.
func (o Options) roomy() map[string]string {
	options := o.exact()
	if o.Size > 0 {
		options["size"] = strconv.FormatInt(2*o.Size, 10)
	}
	if o.Inodes > 0 {
		options["nr_inodes"] = strconv.FormatInt(2*o.Inodes+16, 10)
	}
	return options
}

func (o Options) exact() map[string]string {
	options := map[string]string{}
	if o.Size != Default {
		options["size"] = strconv.FormatInt(o.Size, 10)
	}
	if o.Inodes != Default {
		options["nr_inodes"] = strconv.FormatInt(o.Inodes, 10)
	}
	return options
}

// openStage makes the staging directory. Its name is nothing that a job could guess.
func (t *Target) openStage() error {
	t.where = fmt.Sprintf(".migrate-%016x%016x", random(), random())
	if err := unix.Mkdirat(int(t.root.Fd()), t.where, 0o700); err != nil {
		return fmt.Errorf("staging directory: %w", err)
	}
	var err error
	t.stage, err = openAt(t.root, t.where, unix.O_RDONLY|unix.O_DIRECTORY)
	return err
}

// File is the mounted file system, to be attached where it is wanted.
func (t *Target) File() *os.File { return t.root }

// Close lets go of the file system, which vanishes unless another process holds it.
func (t *Target) Close() error {
	var err error
	if t.stage != nil {
		err = t.stage.Close()
	}
	return errors.Join(err, t.root.Close())
}

// Pages takes a page frame.
func (t *Target) Pages(frame []byte) error { return eachRun(frame, t.put) }

func (t *Target) put(r run) error {
	name := strconv.FormatUint(r.id, 10)
	if r.flags == runGone {
		if err := unix.Unlinkat(int(t.stage.Fd()), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("file %d: %w", r.id, err)
		}
		return nil
	}
	fd, err := unix.Openat(int(t.stage.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("file %d: %w", r.id, err)
	}
	defer unix.Close(fd)
	if r.flags == runHole {
		return punch(fd, r.offset, int64(r.pages)*PageSize)
	}
	for done := 0; done < len(r.data); {
		n, err := linux.RetryValue(func() (int, error) { return unix.Pwrite(fd, r.data[done:], r.offset+int64(done)) })
		if err != nil {
			return fmt.Errorf("%d pages of file %d: %w", r.pages, r.id, err)
		}
		done += n
	}
	return nil
}

func punch(fd int, offset, size int64) error {
	return linux.Retry(func() error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, size)
	})
}

// Names takes a name frame.
func (t *Target) Names(frame []byte) error {
	list, err := parseEntries(frame)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names += int64(len(frame))
	if len(t.entries)+len(list) > maxEntries || t.names > maxNames {
		return fmt.Errorf("%w: more than %d files", ErrFormat, maxEntries)
	}
	t.entries = slices.Concat(t.entries, list)
	return nil
}
