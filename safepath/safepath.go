package safepath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Error says who else decides what a path leads to.
type Error struct {
	Path   string // of the directory, file or link
	UID    uint32 // its owner
	Mode   uint32 // its permissions, if they are too wide; else its owner is wrong
	Remedy string // a command for root; "" = none will do
}

func (e *Error) Error() string {
	if e.Mode != 0 {
		return fmt.Sprintf("%s can be written to by others than root (mode %04o), who may have put anything there", e.Path, e.Mode)
	}
	return fmt.Sprintf("%s belongs to user %d, who decides what is there", e.Path, e.UID)
}

// Check fails with an *Error unless root alone decides what path, which must be absolute, leads
// to. A directory that it leads to may be open for writing if it is sticky.
func Check(path string) error {
	w := walker{at: "/", dir: -1}
	defer w.close()
	return w.walk(path)
}

// Dir makes a directory, and what is missing above it, or takes the one that is there, and sets
// its permissions. It fails with an *Error unless root alone decides what is in it.
func Dir(path string, mode fs.FileMode) error {
	err := Check(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDir(path, mode); err == nil {
			err = Check(path) // another process may have been faster
		}
	}
	if err != nil {
		return err
	}
	// From here on the path leads to the same.
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &os.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	case st.Mode&forOthers != 0:
		return tooWide(path, st)
	case fs.FileMode(st.Mode)&0o777 == mode.Perm():
		return nil
	}
	return os.Chmod(path, mode.Perm())
}

func makeDir(path string, mode fs.FileMode) error {
	if above := filepath.Dir(path); errors.Is(Check(above), fs.ErrNotExist) {
		if err := Dir(above, 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, mode.Perm()); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

const (
	maxLinks  = 40 // as in the kernel
	forOthers = unix.S_IWGRP | unix.S_IWOTH
)

// walker goes along a path as the kernel does, and looks at each step.
type walker struct {
	at    string // as far as it has come, without links
	dir   int    // a descriptor of that
	st    unix.Stat_t
	links int
}

func (w *walker) close() {
	if w.dir >= 0 {
		_ = unix.Close(w.dir)
	}
}

func (w *walker) walk(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is no absolute path", path)
	}
	if err := w.step(unix.AT_FDCWD, "/", "/"); err != nil {
		return err
	}
	for rest := names(path); ; {
		if err := w.safe(); err != nil || len(rest) == 0 {
			return err
		}
		name := rest[0]
		rest = rest[1:]
		shared := w.st.Mode&forOthers != 0
		before := *w
		if err := w.step(before.dir, name, filepath.Join(before.at, name)); err != nil {
			return err
		}
		if shared && !trusted(w.st.Uid) {
			return errors.Join(&Error{Path: w.at, UID: w.st.Uid, Remedy: "rm -r " + w.at}, unix.Close(before.dir))
		}
		if w.st.Mode&unix.S_IFMT != unix.S_IFLNK {
			if err := unix.Close(before.dir); err != nil {
				return err
			}
			continue
		}
		target, err := w.follow(before)
		if err != nil {
			return err
		}
		rest = append(names(target), rest...)
	}
}

// names are the steps of a path.
func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// step takes hold of what has this name in a directory. On an error the walker stays.
func (w *walker) step(dir int, name, path string) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.Fstat(fd, &w.st); err != nil {
		return errors.Join(&os.PathError{Op: "stat", Path: path, Err: err}, unix.Close(fd))
	}
	w.dir, w.at = fd, path
	return nil
}

// follow goes back from a link to the directory that it is in, or to the root, and returns the
// path from there.
func (w *walker) follow(from walker) (string, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(w.dir, "", target)
	if w.links++; err == nil && w.links > maxLinks {
		err = unix.ELOOP
	}
	if err != nil {
		return "", errors.Join(&os.PathError{Op: "readlink", Path: w.at, Err: err}, unix.Close(from.dir))
	}
	err = unix.Close(w.dir)
	w.dir, w.at, w.st = from.dir, from.at, from.st
	if err == nil && filepath.IsAbs(string(target[:n])) {
		if err = w.step(unix.AT_FDCWD, "/", "/"); err == nil {
			err = unix.Close(from.dir)
		}
	}
	return string(target[:n]), err
}

// safe checks that only root can change what the walker has come to, and the names in it.
func (w *walker) safe() error {
	if !trusted(w.st.Uid) {
		return &Error{Path: w.at, UID: w.st.Uid}
	}
	sticky := w.st.Mode&unix.S_ISVTX != 0 && w.st.Mode&unix.S_IFMT == unix.S_IFDIR
	if w.st.Mode&forOthers == 0 || sticky || w.st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	return tooWide(w.at, w.st)
}

func tooWide(path string, st unix.Stat_t) *Error {
	return &Error{Path: path, UID: st.Uid, Mode: st.Mode & 0o7777, Remedy: "chmod go-w " + path}
}

// trusted users are root and, where that is another one, who runs us.
func trusted(uid uint32) bool { return uid == 0 || int64(uid) == int64(os.Geteuid()) }
