package scan

import (
	"fmt"
	"os"
	"strings"

	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
)

// addrRange is a range of addresses in bytes, multiples of the page size.
type addrRange struct{ start, end uint64 }

// lazyMappings lists the memory of a process that CRIU can leave to a lazy restore. That is
// private, anonymous and not locked (vma_entry_can_be_lazy in CRIU's vma.h). It need not be exact,
// because CRIU's pagemaps have the last word.
func lazyMappings(pid int) ([]addrRange, error) {
	var out []addrRange
	for m, err := range procfs.Maps(fmt.Sprintf("/proc/%d/maps", pid)) {
		if err != nil {
			return nil, err
		}
		if lazy(m) {
			out = append(out, addrRange{m.Start, m.End})
		}
	}
	return without(out, lockedMappings(pid)), nil
}

func lazy(m procfs.Mapping) bool {
	own := m.Name == "" || m.Name == "[heap]" || m.Name == "[stack]" || strings.HasPrefix(m.Name, "[anon:")
	return own && m.Inode == "0" && !m.Shared()
}

// parasitePage is the page whose code CRIU replaces for a while, to have the process make system
// calls. It is the first executable one (get_exec_start in CRIU's parasite-syscall.c).
func parasitePage(pid int) (addr uint64, ok bool) {
	for m, err := range procfs.Maps(fmt.Sprintf("/proc/%d/maps", pid)) {
		if err == nil && m.Executable() {
			return m.Start, true
		}
	}
	return 0, false
}

// lockedMappings lists the mlocked mappings of a process. Most processes have none. For smaps the
// kernel walks all page tables of the process, so it is read only if there are some.
func lockedMappings(pid int) (out []addrRange) {
	status, err := procfs.ReadStatus(pid)
	if err != nil || status.Size("VmLck") == 0 {
		return nil
	}
	locked, _ := procfs.Flagged(pid, "lo") // of one that ends, what could be read
	for _, m := range locked {
		out = append(out, addrRange{m.Start, m.End})
	}
	return out
}

// without removes ranges from others; both are sorted.
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
