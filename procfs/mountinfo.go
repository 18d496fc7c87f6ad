package procfs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// MountPoint is one line of mountinfo; see proc(5).
type MountPoint struct {
	ID, Parent   string
	Device       string // major:minor
	Root         string // within its file system
	Target       string
	Options      string
	Type         string
	Source       string
	SuperOptions string
}

// MountTable reads the mounts that a process sees, in mount order.
func MountTable(pid int) ([]MountPoint, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mounts, err := ParseMountTable(f)
	if err != nil {
		return nil, fmt.Errorf("mounts of process %d: %w", pid, err)
	}
	return mounts, nil
}

// ParseMountTable reads the text of a mountinfo file.
func ParseMountTable(text io.Reader) (mounts []MountPoint, err error) {
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, ok := parseMount(lines.Text())
		if !ok {
			return nil, fmt.Errorf("mountinfo has a strange line: %q", lines.Text())
		}
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

// parseMount splits at single spaces: the kernel escapes those of a path, no other kind of space,
// and the source may be empty.
func parseMount(line string) (MountPoint, bool) {
	const fixed, after = 6, 4 // fields before the optional ones, and from the hyphen behind those
	f := strings.Split(line, " ")
	if len(f) < fixed {
		return MountPoint{}, false
	}
	l, r := f[:fixed], f[fixed:]
	hyphen := slices.Index(r, "-")
	if hyphen < 0 || len(r) < hyphen+after {
		return MountPoint{}, false
	}
	r = r[hyphen+1:]
	return MountPoint{
		ID: l[0], Parent: l[1], Device: l[2], Root: unescapePath(l[3]), Target: unescapePath(l[4]), Options: l[5],
		Type: r[0], Source: unescapePath(r[1]), SuperOptions: r[2],
	}, true
}

// EscapePath writes a path as mountinfo has it.
var EscapePath = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace

// unescapePath undoes what the kernel does to paths and sources (seq_path, show_mountinfo).
var unescapePath = strings.NewReplacer(`\043`, "#", `\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
