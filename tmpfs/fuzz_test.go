package tmpfs

import (
	"bytes"
	"encoding/json"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzPageFrames(f *testing.F) {
	data := bytes.Repeat([]byte{7}, 2*PageSize)
	f.Add(appendRun(appendRun(nil, run{id: 1, offset: PageSize, pages: 2, data: data}), run{id: 3, pages: 9, flags: runHole}))
	f.Add(appendRun(nil, run{id: 1 << 40, flags: runGone}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		var again []byte
		err := eachRun(frame, func(r run) error {
			if r.flags == 0 && len(r.data) != int(r.pages)*PageSize || r.offset+int64(r.pages)*PageSize < 0 {
				t.Errorf("passed: %d bytes of %d pages at %#x", len(r.data), r.pages, r.offset)
			}
			again = appendRun(again, r)
			return nil
		})
		if err == nil && !bytes.Equal(again, frame) {
			t.Error("it reads as something else")
		}
	})
}

func FuzzNameFrames(f *testing.F) {
	for _, e := range []Entry{
		{Mode: unix.S_IFDIR | 0o1777}, {Path: []byte("a/b"), Mode: unix.S_IFREG | 0o600, File: 3, Size: 12, Full: true},
		{Path: []byte("l\xff"), Mode: unix.S_IFLNK | 0o777, File: 4, Link: []byte("../x"), Xattrs: map[string][]byte{"user.a": {0}}},
	} {
		data, err := json.Marshal([]Entry{e})
		must(f, err)
		f.Add(data)
	}
	f.Add([]byte(`[{"path":"Li4=","mode":16384},{"path":"YS8uLi9i","mode":16384},{"mode":49152,"file":1}]`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		list, err := parseEntries(frame)
		if err != nil {
			return
		}
		for _, e := range list {
			if p := "/" + string(e.Path) + "/"; bytes.Contains([]byte(p), []byte("/../")) || len(e.Path) > 0 && bytes.Contains([]byte(p), []byte("//")) {
				t.Errorf("path %q passes", e.Path)
			}
		}
	})
}
