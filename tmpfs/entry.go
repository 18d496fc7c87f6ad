package tmpfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is one name of the file system and what it leads to. Entries with the same
// File are names of one file, and the first of them says all about it.
type Entry struct {
	// Path is relative to the root, whose own is empty. It need not be UTF-8.
	Path []byte `json:"path"`
	// File is the file's number, 0 for a directory.
	File uint64 `json:"file,omitempty"`
	Mode uint32 `json:"mode"` // st_mode, kind and permissions
	UID  uint32 `json:"uid"`  // as the node sees it
	GID  uint32 `json:"gid"`
	Size int64  `json:"size,omitempty"` // of a regular file, bytes
	// Full says that the file system has set room aside for every page of the file.
	Full bool `json:"full,omitempty"`
	// Device is the number of a device node, as mknod(2) takes it.
	Device uint64            `json:"device,omitempty"`
	Link   []byte            `json:"link,omitempty"` // where a symbolic link leads
	Access [2]int64          `json:"access"`         // time of the last access, seconds and nanoseconds
	Change [2]int64          `json:"change"`         // of the last change of the content
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// Bounds of what is believed about a tree.
const (
	maxEntries = 1 << 20
	maxNames   = 512 << 20 // bytes of all name frames
	maxLink    = 4096
	maxPath    = maxDepth * 256
)

// Note takes down all names of a frozen job, for Names.
func (s *Source) Note(ctx context.Context) error {
	s.entries, s.noted = nil, nil
	err := s.walk(ctx, true, func(e found) error {
		n, err := s.note(e)
		s.entries = append(s.entries, n)
		return err
	})
	if err != nil {
		return fmt.Errorf("look at %s: %w", s.Target, err)
	}
	return nil
}

func (s *Source) note(e found) (Entry, error) {
	st := &e.st
	n := Entry{
		Path: []byte(e.path), Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid,
		Access: [2]int64{st.Atime.Sec, int64(st.Atime.Nsec)}, Change: [2]int64{st.Mtime.Sec, int64(st.Mtime.Nsec)},
	}
	switch e.kind() {
	case unix.S_IFDIR:
	case unix.S_IFREG:
		n.Size = int64(st.Size)
		n.Full = n.Size > 0 && int64(st.Blocks)*512 >= n.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Device = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	}
	if e.kind() != unix.S_IFDIR {
		f := s.files.of(st)
		n.File = f.id
		if n.Size > 0 {
			s.noted = append(s.noted, f)
		}
	}
	return n, e.details(&n)
}

// details adds what statx does not tell.
func (e found) details(n *Entry) error {
	name := e.name
	if name == "" {
		name = "." // the root
	}
	f, err := openAt(e.dir, name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer f.Close()
	if e.kind() == unix.S_IFLNK {
		buf := make([]byte, maxLink)
		size, err := unix.Readlinkat(int(f.Fd()), "", buf)
		if err != nil {
			return err
		}
		n.Link = slices.Clone(buf[:size])
	}
	n.Xattrs, err = xattrs(procPath(f))
	return err
}

// procPath leads to the very file that is open, whatever it is.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// carried are the extended attributes that belong to a file and not to the node: by
// prefix, or whole.
var carried = []string{"user.", "trusted.", "security.capability", "system.posix_acl_access", "system.posix_acl_default"}

func isCarried(name string) bool {
	return slices.ContainsFunc(carried, func(c string) bool {
		return name == c || strings.HasSuffix(c, ".") && strings.HasPrefix(name, c)
	})
}

// xattrs reads the extended attributes of a file.
func xattrs(path string) (map[string][]byte, error) {
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX and XATTR_SIZE_MAX
	size, err := unix.Listxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("extended attributes: %w", err)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:size]), "\x00"), "\x00")
	var all map[string][]byte
	for _, name := range names {
		if !isCarried(name) {
			continue
		}
		size, err := unix.Getxattr(path, name, buf)
		if err != nil {
			return nil, fmt.Errorf("extended attribute %s: %w", name, err)
		}
		if all == nil {
			all = map[string][]byte{}
		}
		all[name] = slices.Clone(buf[:size])
	}
	return all, nil
}

// Names sends what Note has taken down, after a round that was begun in the frozen job.
func (s *Source) Names(out Sink) error {
	for _, f := range s.noted {
		if f.seen != s.files.rounds {
			return fmt.Errorf("a file of %s came up that was not there a moment ago, although the job is frozen", s.Target)
		}
	}
	frame, total := []byte{'['}, 0
	flush := func() error {
		if len(frame) == 1 {
			return nil
		}
		if total += len(frame); total > maxNames {
			return fmt.Errorf("%s: the names and attributes of its files take more than %d MiB", s.Target, maxNames>>20)
		}
		frame[len(frame)-1] = ']'
		err := out.WriteFrame(frame)
		frame = frame[:1]
		return err
	}
	for _, e := range s.entries {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if len(data)+2 > MaxFrame {
			return fmt.Errorf("%s/%.80s: its extended attributes are too large to be carried", s.Target, e.Path)
		}
		if len(frame)+len(data)+1 > MaxFrame {
			if err := flush(); err != nil {
				return err
			}
		}
		frame = append(append(frame, data...), ',')
	}
	return flush()
}

func parseEntries(frame []byte) ([]Entry, error) {
	var list []Entry
	if err := json.Unmarshal(frame, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, e := range list {
		if err := e.check(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// check refuses what no Source would have sent.
func (e Entry) check() error {
	fail := func(what string) error { return fmt.Errorf("%w: %s: %.80q", ErrFormat, what, e.Path) }
	kind := e.Mode & unix.S_IFMT
	switch {
	case len(e.Path) > maxPath || bytes.IndexByte(e.Path, 0) >= 0:
		return fail("path")
	case len(e.Path) == 0 && kind != unix.S_IFDIR:
		return fail("the root is no directory")
	case (kind == unix.S_IFDIR) != (e.File == 0):
		return fail("number of the file")
	case e.Mode&^(unix.S_IFMT|0o7777) != 0:
		return fail("mode")
	case e.Size < 0 || e.Size > maxOffset || e.Size > 0 && kind != unix.S_IFREG:
		return fail("size")
	case len(e.Link) > maxLink || (len(e.Link) > 0) != (kind == unix.S_IFLNK) || bytes.IndexByte(e.Link, 0) >= 0:
		return fail("link")
	}
	switch kind {
	case unix.S_IFDIR, unix.S_IFREG, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
	default:
		return fail("kind")
	}
	for name := range e.Xattrs {
		if !isCarried(name) {
			return fail("extended attribute")
		}
	}
	return e.checkPath()
}

func (e Entry) checkPath() error {
	if len(e.Path) == 0 {
		return nil
	}
	parts := bytes.Split(e.Path, []byte{'/'})
	for _, part := range parts {
		if p := string(part); p == "" || p == "." || p == ".." || len(p) > 255 {
			return fmt.Errorf("%w: path %.80q", ErrFormat, e.Path)
		}
	}
	return nil
}
