package procfs

import (
	"bufio"
	"fmt"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Mapping is a line of /proc/PID/maps, see proc_pid_maps(5).
type Mapping struct {
	Start, End uint64 // addresses in bytes
	Perms      string // four letters: r, w, x or -, then p for private or s for shared
	Device     string // major:minor, hexadecimal
	Inode      string // decimal; "0" is no file
	Name       string // path, or what the kernel calls the area: "[heap]"; "" is anonymous memory
	Flags      string // VmFlags of smaps; "" where that was not read
}

// Writable, Executable and Shared are what the permissions say.
func (m Mapping) Writable() bool   { return m.Perms[1] == 'w' }
func (m Mapping) Executable() bool { return m.Perms[2] == 'x' }
func (m Mapping) Shared() bool     { return m.Perms[3] == 's' }

// Has tells whether the mapping has a flag of VmFlags.
func (m Mapping) Has(flag string) bool { return slices.Contains(strings.Fields(m.Flags), flag) }

// Link is the mapping's name in /proc/PID/map_files.
func (m Mapping) Link() string { return fmt.Sprintf("%x-%x", m.Start, m.End) }

// ParseMapping parses a line of maps, or a head line of smaps; ok is false for any other.
func ParseMapping(line string) (m Mapping, ok bool) {
	f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
	if len(f) < 5 || len(f[1]) != 4 {
		return m, false
	}
	if m.Start, m.End, ok = parseSpan(f[0]); !ok {
		return m, false
	}
	m.Perms, m.Device, m.Inode = f[1], f[3], f[4]
	if len(f) == 6 {
		m.Name = strings.TrimLeft(f[5], " ")
	}
	return m, true
}

func parseSpan(s string) (start, end uint64, ok bool) {
	from, to, _ := strings.Cut(s, "-")
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	return start, end, err1 == nil && err2 == nil && start < end
}

// Maps reads a file maps, and ends with the error that reading it ended with, if any.
func Maps(path string) iter.Seq2[Mapping, error] {
	return func(yield func(Mapping, error) bool) {
		err := eachLine(path, func(line string) bool {
			m, ok := ParseMapping(line)
			return !ok || yield(m, nil)
		})
		if err != nil {
			yield(Mapping{}, err)
		}
	}
}

// Flagged lists the mappings of a process that have one of these flags (VmFlags in smaps). The
// kernel walks all of the process's page tables for it. With an error it returns what it has read.
func Flagged(pid int, flags ...string) (list []Mapping, err error) {
	var at Mapping
	err = eachLine(fmt.Sprintf("/proc/%d/smaps", pid), func(line string) bool {
		if m, ok := ParseMapping(line); ok {
			at = m
			return true
		}
		words, ok := strings.CutPrefix(line, "VmFlags:")
		if at.Flags = words; ok && slices.ContainsFunc(flags, at.Has) {
			list = append(list, at)
		}
		return true
	})
	return list, err
}

// eachLine calls fn for the lines of a file until it returns false.
func eachLine(path string, fn func(line string) bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if !fn(lines.Text()) {
			return nil
		}
	}
	return lines.Err()
}
