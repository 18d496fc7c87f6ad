package tmpfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
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

// built has a target build the entries behind a root.
func built(t testing.TB, o Options, entries ...Entry) (*Target, error) {
	t.Helper()
	to := target(t, o)
	data, err := json.Marshal(append([]Entry{{Mode: unix.S_IFDIR | 0o755}}, entries...))
	must(t, err)
	if err := to.Names(data); err != nil {
		return to, err
	}
	return to, to.Finish()
}

func TestNamesLeadNowhereBeyondTheMount(t *testing.T) {
	outside := t.TempDir()
	link := Entry{Path: []byte("out"), Mode: unix.S_IFLNK | 0o777, File: 1, Link: []byte(outside)}
	file := Entry{Mode: unix.S_IFREG | 0o600, File: 2}
	at := func(path string, e Entry) Entry { e.Path = []byte(path); return e }
	for name, entries := range map[string][]Entry{
		"a file behind a link":      {link, at("out/file", file)},
		"a directory behind a link": {link, at("out/dir", Entry{Mode: unix.S_IFDIR | 0o700})},
		"a link behind a link":      {link, at("out/link", Entry{Mode: unix.S_IFLNK | 0o777, File: 3, Link: []byte("x")})},
		"a name behind a link":      {at("f", file), link, at("out/again", file)},
		"up":                        {at("../file", file)},
		"up from within":            {at("d", Entry{Mode: unix.S_IFDIR | 0o700}), at("d/../../file", file)},
		"from the root":             {at("/file", file)},
		"a link for a directory":    {at("d", Entry{Mode: unix.S_IFDIR | 0o700}), at("d", link)},
	} {
		if _, err := built(t, defaults, entries...); err == nil {
			t.Errorf("%s: accepted", name)
		}
		for _, dir := range []string{outside, filepath.Dir(outside)} {
			entries, err := os.ReadDir(dir)
			if err != nil || dir == outside && len(entries) > 0 {
				t.Errorf("%s: %s holds %v %v", name, dir, entries, err)
			}
		}
	}
}

func TestAFileThatIsSaidToBeVastTakesNoMemory(t *testing.T) {
	for _, o := range []Options{defaults, {Size: 0, Inodes: 0}, {Size: 1 << 60, Inodes: Default}} {
		for _, size := range []int64{1 << 46, maxOffset} {
			vast := Entry{Path: []byte("vast"), Mode: unix.S_IFREG | 0o600, File: 1, Size: size, Full: true}
			if _, err := built(t, o, vast); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("%d bytes in %+v: %v", size, o, err)
			}
		}
	}
}
