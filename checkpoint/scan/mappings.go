package scan

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/stream"
)

// addrRange is a range of addresses in bytes, multiples of the page size.
type addrRange struct{ start, end uint64 }

// lazyMappings lists where a process has memory that CRIU can leave to a lazy restore:
// private, anonymous, not locked (vma_entry_can_be_lazy in CRIU's vma.h). It need not
// be exact, because CRIU's pagemaps have the last word.
func lazyMappings(pid int) ([]addrRange, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	var out []addrRange
	for line := range bytes.Lines(text) {
		if r, ok := parseMapping(string(line)); ok {
			out = append(out, r)
		}
	}
	return without(out, lockedMappings(pid)), nil
}

// parseMapping reads a line of /proc/PID/maps; ok is false if it is not for us.
//
//	start-end perms offset device inode name
func parseMapping(line string) (r addrRange, ok bool) {
	f := strings.Fields(line)
	if len(f) < 5 || len(f[1]) != 4 || f[1][3] != 'p' || f[4] != "0" {
		return r, false
	}
	if len(f) > 5 && f[5] != "[heap]" && f[5] != "[stack]" && !strings.HasPrefix(f[5], "[anon:") {
		return r, false
	}
	return parseRange(f[0])
}

// parasitePage is the page whose code CRIU replaces for a while to have the process do
// system calls: the first that may be executed (get_exec_start in its parasite-syscall.c).
func parasitePage(pid int) (addr uint64, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) > 1 && len(f[1]) == 4 && f[1][2] == 'x' {
			r, ok := parseRange(f[0])
			return r.start, ok
		}
	}
	return 0, false
}

func parseRange(s string) (r addrRange, ok bool) {
	from, to, _ := strings.Cut(s, "-")
	var err1, err2 error
	r.start, err1 = strconv.ParseUint(from, 16, 64)
	r.end, err2 = strconv.ParseUint(to, 16, 64)
	return r, err1 == nil && err2 == nil && r.start < r.end
}

// lockedMappings lists the mlocked mappings of a process. Most have none; who asks the
// kernel pays for all of the process's page tables, so it is asked only if there are.
func lockedMappings(pid int) []addrRange {
	if !hasLocked(pid) {
		return nil
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []addrRange
	var at addrRange
	for lines := bufio.NewScanner(f); lines.Scan(); {
		field, rest, _ := strings.Cut(lines.Text(), " ")
		if r, ok := parseRange(field); ok {
			at = r
		} else if field == "VmFlags:" && strings.Contains(rest+" ", "lo ") {
			out = append(out, at)
		}
	}
	return out
}

func hasLocked(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(status) {
		if size, ok := bytes.CutPrefix(line, []byte("VmLck:")); ok {
			return !bytes.HasPrefix(bytes.TrimSpace(size), []byte("0 "))
		}
	}
	return false
}

// without takes ranges out of others; both are sorted.
func without(all, out []addrRange) []addrRange {
	if len(out) == 0 {
		return all
	}
	var left []addrRange
	for _, r := range all {
		for _, o := range out {
			if o.end <= r.start || o.start >= r.end {
				continue
			}
			if r.start < o.start {
				left = append(left, addrRange{r.start, o.start})
			}
			r.start = min(o.end, r.end)
		}
		if r.start < r.end {
			left = append(left, r)
		}
	}
	return left
}

// resident is how much memory a process has, in bytes; 0 for one that is gone.
func resident(pid int) int64 {
	var size, pages int64
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * stream.PageSize
}
