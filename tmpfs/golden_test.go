package tmpfs

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestFramesAreWrittenAsTheyAlwaysWere(t *testing.T) {
	frame := appendRun(nil, run{id: 1, offset: 3 * PageSize, pages: 1, data: bytes.Repeat([]byte("page"), PageSize/4)})
	frame = appendRun(frame, run{id: 1, offset: 8 * PageSize, pages: 70, flags: runHole})
	frame = appendRun(frame, run{id: 2, flags: runGone})
	testenv.Golden(t, "format-1/pages.bin", frame)
	s := &Source{files: NewFiles(), entries: []Entry{
		{Mode: unix.S_IFDIR | 0o1777, Access: [2]int64{1, 2}, Change: [2]int64{-3, 4}},
		{Path: []byte("a\xff"), File: 1, Mode: unix.S_IFREG | 0o4711, UID: 1000, GID: 100, Size: 5, Full: true, Xattrs: map[string][]byte{"user.x": {0, 1}}},
		{Path: []byte("l"), File: 3, Mode: unix.S_IFLNK | 0o777, Link: []byte("../a")},
		{Path: []byte("z"), File: 4, Mode: unix.S_IFCHR | 0o600, Device: unix.Mkdev(1, 3)},
	}}
	w := &wire{take: func(frame []byte) error {
		testenv.Golden(t, "format-1/names.json", frame)
		list, err := parseEntries(frame)
		if err == nil && len(list) != 4 {
			t.Errorf("%d entries are read", len(list))
		}
		return err
	}}
	must(t, s.Names(w))
}
