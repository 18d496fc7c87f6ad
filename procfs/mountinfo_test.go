package procfs

import (
	"testing"
)

func TestMountLinesAreReadAsProc5DescribesThem(t *testing.T) {
	for line, want := range map[string]MountPoint{
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": {
			ID: "36", Parent: "35", Device: "98:0", Root: "/mnt1", Target: "/mnt2", Options: "rw,noatime",
			Type: "ext3", Source: "/dev/root", SuperOptions: "rw,errors=continue"},
		"1 0 0:1 / / rw - rootfs none rw": { // no optional fields
			ID: "1", Parent: "0", Device: "0:1", Root: "/", Target: "/", Options: "rw", Type: "rootfs", Source: "none", SuperOptions: "rw"},
		"2 1 0:2 / /a rw shared:1 master:2 propagate_from:3 unbindable - tmpfs tmpfs rw": {
			ID: "2", Parent: "1", Device: "0:2", Root: "/", Target: "/a", Options: "rw", Type: "tmpfs", Source: "tmpfs", SuperOptions: "rw"},
		`3 1 0:3 /x\040y /tab\011nl\012bs\134end ro - fuse.ssh my\040host:/ rw`: {
			ID: "3", Parent: "1", Device: "0:3", Root: "/x y", Target: "/tab\tnl\nbs\\end", Options: "ro", Type: "fuse.ssh", Source: "my host:/", SuperOptions: "rw"},
		"4 1 0:4 / /a rw - tmpfs  rw": { // without a source
			ID: "4", Parent: "1", Device: "0:4", Root: "/", Target: "/a", Options: "rw", Type: "tmpfs", SuperOptions: "rw"},
		"5 1 0:5 / /a\v\f\r\u00a0b rw - tmpfs \\043x rw": { // other space than that is not escaped
			ID: "5", Parent: "1", Device: "0:5", Root: "/", Target: "/a\v\f\r\u00a0b", Options: "rw", Type: "tmpfs", Source: "#x", SuperOptions: "rw"},
	} {
		got, ok := parseMount(line)
		if !ok || got != want {
			t.Errorf("%q\n got %+v (%v)\nwant %+v", line, got, ok, want)
		}
	}
}

func TestAnEscapedBackslashIsNotTakenForTheStartOfAnotherEscape(t *testing.T) {
	if got := unescapePath(`\134040`); got != `\040` {
		t.Errorf("got %q", got)
	}
}

func TestStrangeMountLinesAreRefused(t *testing.T) {
	for _, line := range []string{"", "-", " - ", "36 35 98:0 / /mnt rw master:1", "36 35 98:0 / rw - ext3 /dev/root rw", "36 35 98:0 / /mnt rw - ext3 /dev/root"} {
		if m, ok := parseMount(line); ok {
			t.Errorf("%q is read as %+v", line, m)
		}
	}
}

func TestTheMountTableOfAProcessThatIsGoneIsAnError(t *testing.T) {
	if _, err := MountTable(1 << 30); err == nil {
		t.Error("no error")
	}
}
