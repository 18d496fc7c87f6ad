package procfs

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLinesOfMapsAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "maps")
	text := "00400000-00452000 r-xp 00001000 08:02 173521                     /a file with  spaces (deleted)\n" +
		"no mapping\n" +
		"7f0000000000-7f0000021000 rw-p 00000000 00:00 0 \n" +
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []Mapping
	for m, err := range Maps(path) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	want := []Mapping{
		{0x400000, 0x452000, "r-xp", "08:02", "173521", "/a file with  spaces (deleted)", ""},
		{0x7f0000000000, 0x7f0000021000, "rw-p", "00:00", "0", "", ""},
		{0xffffffffff600000, 0xffffffffff601000, "--xp", "00:00", "0", "[vsyscall]", ""},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v", got)
	}
	if m := got[0]; m.Link() != "400000-452000" || m.Writable() || !m.Executable() || m.Shared() {
		t.Errorf("%+v: link %s", m, m.Link())
	}
}

func TestMapsEndWithTheErrorOfTheirFile(t *testing.T) {
	for m, err := range Maps(filepath.Join(t.TempDir(), "none")) {
		if !IsGone(err) {
			t.Errorf("%+v, %v", m, err)
		}
		return
	}
	t.Error("a file that is not there has no mappings, and no error")
}

func TestMappingsAreFoundByTheirFlags(t *testing.T) {
	page := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if err := unix.Madvise(mem[page:2*page], unix.MADV_DONTFORK); err != nil {
		t.Fatal(err)
	}
	list, err := Flagged(os.Getpid(), "wf", "dc")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if m.End-m.Start == uint64(page) && m.Perms == "rw-p" {
			return
		}
	}
	t.Errorf("the page is not in %+v", list)
}

func ExampleParseMapping() {
	m, ok := ParseMapping("00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon")
	fmt.Println(ok, m.Link(), m.Executable(), m.Shared(), m.Name)
	// Output: true 400000-452000 true false /usr/bin/dbus-daemon
}

func FuzzParseMapping(f *testing.F) {
	f.Add("00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon")
	f.Add("7ffd0000-7ffd1000 rw-p 00000000 00:00 0 ")
	f.Add("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]")
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := ParseMapping(line); ok && (m.Start >= m.End || len(m.Perms) != 4) {
			t.Errorf("%q is read as %+v", line, m)
		}
	})
}
