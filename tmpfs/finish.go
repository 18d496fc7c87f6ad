package tmpfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// Finish gives everything its name and attributes, once all pages and names have
// come. Doing it again does nothing.
func (t *Target) Finish() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return nil
	}
	if len(t.entries) == 0 || len(t.entries[0].Path) != 0 {
		return fmt.Errorf("%w: its root never came", ErrFormat)
	}
	b := &builder{root: t.root, stage: t.stage, first: map[uint64]string{}}
	err := b.build(t.entries)
	if err = errors.Join(err, b.leave()); err != nil {
		return err
	}
	if err := t.removeStage(); err != nil {
		return err
	}
	// Last, because every name that came or went has changed the time of a directory.
	for i := len(t.entries) - 1; i >= 0; i-- {
		if e := t.entries[i]; e.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := finishDir(t.root, e); err != nil {
				return fmt.Errorf("%.200s: %w", e.Path, err)
			}
		}
	}
	if err := limit(t.root, t.options.exact()); err != nil {
		return fmt.Errorf("its content does not fit into %d bytes and %d files: %w", t.options.Size, t.options.Inodes, err)
	}
	t.entries, t.done = nil, true
	return nil
}

// removeStage removes the staging directory with the files that never got a name.
func (t *Target) removeStage() error {
	names, err := t.stage.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := unix.Unlinkat(int(t.stage.Fd()), name, 0); err != nil {
			return err
		}
	}
	err = t.stage.Close()
	t.stage = nil
	return errors.Join(err, unix.Unlinkat(int(t.root.Fd()), t.where, unix.AT_REMOVEDIR))
}

// builder gives names.
type builder struct {
	root, stage *os.File
	first       map[uint64]string // file → the first of its names
	at          string            // the directory that is open
	dir         *os.File
}

func (b *builder) build(entries []Entry) error {
	for _, e := range entries[1:] {
		if len(e.Path) == 0 {
			return fmt.Errorf("%w: a second root", ErrFormat)
		}
		if err := b.add(e); err != nil {
			return fmt.Errorf("%.200s: %w", e.Path, err)
		}
	}
	return nil
}

func (b *builder) add(e Entry) error {
	at, name := path.Split(string(e.Path))
	if err := b.enter(path.Clean(at)); err != nil {
		return err
	}
	dir := int(b.dir.Fd())
	if e.File == 0 {
		return unix.Mkdirat(dir, name, 0o700)
	}
	if first, ok := b.first[e.File]; ok {
		return b.link(first, name)
	}
	b.first[e.File] = string(e.Path)
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return b.regular(e, name)
	case unix.S_IFLNK:
		if err := unix.Symlinkat(string(e.Link), dir, name); err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(dir, name, e.Mode&unix.S_IFMT|0o600, int(e.Device)); err != nil {
			return err
		}
	}
	f, err := openAt(b.dir, name, unix.O_PATH)
	if err != nil {
		return err
	}
	return errors.Join(e.apply(f), f.Close())
}

// link gives another name to a file, which may be a symbolic link itself.
func (b *builder) link(first, name string) error {
	at, base := path.Split(first)
	from, err := openAt(b.root, path.Clean("./"+at), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return errors.Join(unix.Linkat(int(from.Fd()), base, int(b.dir.Fd()), name, 0), from.Close())
}

// enter opens a directory unless it is open already.
func (b *builder) enter(at string) error {
	if b.dir != nil && b.at == at {
		return nil
	}
	dir, err := openAt(b.root, path.Clean("./"+at), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	err = b.leave()
	b.at, b.dir = at, dir
	return err
}

func (b *builder) leave() error {
	if b.dir == nil {
		return nil
	}
	err := b.dir.Close()
	b.dir = nil
	return err
}

// regular finishes a file in the staging directory and moves it to its place.
func (b *builder) regular(e Entry, name string) error {
	staged := strconv.FormatUint(e.File, 10)
	fd, err := unix.Openat(int(b.stage.Fd()), staged, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), staged)
	err = f.Truncate(e.Size)
	if err == nil && e.Full {
		err = setAside(fd, e.Size)
	}
	if err == nil {
		err = e.apply(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return unix.Renameat(int(b.stage.Fd()), staged, int(b.dir.Fd()), name)
}

// setAside makes room for every page of a file. The size is the source's word: more than
// there is would take memory from all other processes.
func setAside(fd int, size int64) error {
	var st unix.Stat_t
	if err := linux.Retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	free, err := Available()
	if err != nil {
		return err
	}
	if need := size - st.Blocks*512; need > free {
		return fmt.Errorf("%w: it takes %d bytes more, %d are available", unix.ENOSPC, need, free)
	}
	return linux.Retry(func() error { return unix.Fallocate(fd, 0, 0, size) })
}

func finishDir(root *os.File, e Entry) error {
	f, err := openAt(root, path.Clean("./"+string(e.Path)), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return errors.Join(e.apply(f), f.Close())
}

// apply sets the attributes of an open file of any kind. Each step may undo a part of
// one before it, so the order matters: a change of owner takes away set-uid bits and
// capabilities, all of them change the times.
func (e Entry) apply(f *os.File) error {
	link := e.Mode&unix.S_IFMT == unix.S_IFLNK
	at := procPath(f)
	if err := unix.Fchownat(int(f.Fd()), "", int(e.UID), int(e.GID), unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if !link {
		if err := unix.Chmod(at, e.Mode&0o7777); err != nil {
			return fmt.Errorf("mode: %w", err)
		}
	}
	for name, value := range e.Xattrs {
		if err := unix.Setxattr(at, name, value, 0); err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	times := []unix.Timespec{unixTime(e.Access), unixTime(e.Change)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, at, times, 0); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

func unixTime(t [2]int64) unix.Timespec { return unix.Timespec{Sec: t[0], Nsec: t[1]} }
