package tmpfs

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree lists a directory as ls would, with everything that a job can see.
func tree(t testing.TB, root string) map[string]string {
	t.Helper()
	seen, links := map[string]string{}, map[uint64]string{}
	err := filepath.WalkDir(root+"/", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		if first, ok := links[st.Ino]; ok {
			seen[name] = "= " + first
			return nil
		}
		links[st.Ino] = name
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			st.Atim = unix.Timespec{} // reading where it leads sets it
		}
		seen[name] = fmt.Sprintf("mode %o owner %d:%d links %d atime %v mtime %v device %d ", st.Mode, st.Uid, st.Gid, st.Nlink, st.Atim, st.Mtim, st.Rdev)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			seen[name] += fmt.Sprintf("size %d blocks %d sum %x", st.Size, st.Blocks, sum(t, path))
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
				return err
			}
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			seen[name] += "to " + to
		}
		attrs, err := xattrsOf(path)
		for _, key := range slices.Sorted(maps.Keys(attrs)) {
			seen[name] += fmt.Sprintf(" %s=%x", key, attrs[key])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// sum is of the content; holes and zeros count for nothing.
func sum(t testing.TB, path string) (n uint64) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	buf := make([]byte, chunkSize)
	must(t, eachChunk(f, func(index int64) error {
		size, err := f.ReadAt(buf, index*chunkSize)
		for i, b := range buf[:size] {
			n += (uint64(index*chunkSize) + uint64(i) + 1) * 1099511628211 * uint64(b)
		}
		if err == io.EOF {
			err = nil
		}
		return err
	}))
	return n
}

func xattrsOf(path string) (map[string][]byte, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return xattrs(fmt.Sprintf("/proc/self/fd/%d", fd))
}

func same(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name, is := range want {
		if got[name] != is {
			t.Errorf("%q arrived as\n%s, not as\n%s", name, got[name], is)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%q was never there", name)
		}
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func pattern(size int, seed byte) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i/PageSize) ^ byte(i*7) ^ seed | 1
	}
	return b
}

// oddities fills a directory with every kind of thing.
func oddities(t testing.TB, dir string) {
	t.Helper()
	old := unix.Umask(0)
	defer unix.Umask(old)
	in := func(name string) string { return filepath.Join(dir, name) }
	must(t,
		os.WriteFile(in("plain"), []byte("hello"), 0o640),
		os.WriteFile(in("empty"), nil, 0o600),
		os.WriteFile(in("large"), pattern(3*chunkSize+5*PageSize+17, 3), 0o666),
		os.Mkdir(in("dir"), 0o3770), os.Mkdir(in("dir/empty"), 0o500),
		os.Link(in("plain"), in("dir/again")),
		os.WriteFile(in("not\xffutf8\n"), []byte("x"), 0o600),
		os.WriteFile(in(strings.Repeat("n", 255)), []byte("long"), 0o600),
		os.Symlink("/nowhere/at all", in("link")), os.Link(in("link"), in("dir/same link")),
		os.Symlink("plain", in("near")),
		unix.Mkfifo(in("fifo"), 0o621), unix.Mknod(in("socket"), unix.S_IFSOCK|0o755, 0),
		unix.Mknod(in("whiteout"), unix.S_IFCHR, 0),
		os.WriteFile(in("set-uid"), []byte("#!"), 0o600), os.Chown(in("set-uid"), 1234, 4321), unix.Chmod(in("set-uid"), 0o6711),
		os.Lchown(in("link"), 7, 8), os.Chown(in("dir/empty"), 70000, 70001),
		unix.Setxattr(in("plain"), "trusted.note", []byte("kept\x00whole"), 0),
		unix.Lsetxattr(in("near"), "trusted.link", []byte("too"), 0),
	)
	sparse, err := os.Create(in("sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("far out"), 1<<40)
	must(t, err, sparse.Truncate(1<<41+1), sparse.Close())
	full, err := os.Create(in("room set aside"))
	must(t, err, unix.Fallocate(int(full.Fd()), 0, 0, 100*PageSize+1))
	_, err = full.WriteAt([]byte("in the middle"), 50*PageSize)
	must(t, err, full.Close())
	past := []unix.Timespec{{Sec: 1000000000, Nsec: 123456789}, {Sec: -5, Nsec: 1}}
	for _, name := range []string{"plain", "link", "dir", "fifo", "dir/empty", ""} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/"+name, past, noFollow(name)))
	}
}

func noFollow(name string) int {
	if name == "" {
		return 0 // the path of a descriptor is a link itself
	}
	return unix.AT_SYMLINK_NOFOLLOW
}
