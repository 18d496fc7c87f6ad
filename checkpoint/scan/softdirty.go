package scan

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
)

// softDirty reads the soft-dirty bits of page tables. The kernel sets one at the first write after
// they were cleared (Documentation/admin-guide/mm/soft-dirty.rst).
//
// They are cleared once, before a process is read for the first time. Clearing them between
// looking at the bits and reading would lose writes in between. So more and more pages have to be
// read, and comparing finds those that have changed. Memory that a process gets later, also by an
// exec, has its bits set.
type softDirty struct {
	followed map[Task]bool
}

func (s *softDirty) name() string { return "soft-dirty" }

func (s *softDirty) begin(tasks []Task) (news []stream.VPID) {
	now := map[Task]bool{}
	for _, t := range tasks {
		if s.followed[t] {
			now[t] = true
		} else if err := clearBits(t); err == nil {
			now[t] = true
			news = append(news, t.VPID)
		}
	}
	s.followed = now
	return news
}

// clearBits clears the bits of the process that was listed. A process that has reused its pid may
// be tracked by another program.
func clearBits(t Task) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/clear_refs", t.PID), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	held, err := pidmap.Take(t.PID, t.Began)
	if err != nil {
		return err
	}
	held.Close() // the file is of the process that was there when it was opened
	_, err = f.WriteString("4")
	return err
}

func (s *softDirty) changed(t Task, m addrRange) (where []addrRange, known bool) {
	if !s.followed[t] {
		return nil, false
	}
	table, err := procfs.OpenPagemap(t.PID)
	if err != nil {
		return nil, false
	}
	defer table.Close()
	err = table.Each(m.start, m.end, func(start, end uint64) error {
		found := addrRange{start, end}
		for found.start < found.end {
			part := addrRange{found.start, min(found.end, found.start+procfs.EntriesAtOnce*stream.PageSize)}
			entries, err := table.Entries(part.start, part.end)
			if err != nil {
				return err
			}
			for i, e := range entries {
				if e&procfs.SoftDirty != 0 {
					addr := part.start + uint64(i)*stream.PageSize
					where = appendRange(where, addrRange{addr, addr + stream.PageSize})
				}
			}
			found.start = part.end
		}
		return nil
	})
	return where, err == nil
}

// appendRange adds a range behind others.
func appendRange(list []addrRange, r addrRange) []addrRange {
	if n := len(list); n > 0 && list[n-1].end == r.start {
		list[n-1].end = r.end
		return list
	}
	return append(list, r)
}

var errNoSoftDirty = errors.New("this kernel has no soft-dirty bits")

// softDirtyWorks tries it on memory of its own. It finds a write, and nothing where there was
// none.
func softDirtyWorks() error {
	mem, err := mapMemory(2 * stream.PageSize)
	if err != nil {
		return err
	}
	defer unix.MunmapPtr(unsafe.Pointer(&mem[0]), uintptr(len(mem)))
	mem[0], mem[stream.PageSize] = 1, 1
	clear, err := os.OpenFile("/proc/self/clear_refs", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer clear.Close()
	if _, err := clear.WriteString("4"); err != nil {
		return fmt.Errorf("%w: %w", errNoSoftDirty, err)
	}
	mem[stream.PageSize] = 2
	table, err := procfs.OpenPagemap(os.Getpid())
	if err != nil {
		return err
	}
	defer table.Close()
	start := uint64(uintptr(unsafe.Pointer(&mem[0])))
	e, err := table.Entries(start, start+uint64(len(mem)))
	switch {
	case err != nil:
		return err
	case e[0]&procfs.SoftDirty != 0 || e[1]&procfs.SoftDirty == 0:
		return fmt.Errorf("%w: after a write they are %v and %v", errNoSoftDirty, e[0]&procfs.SoftDirty != 0, e[1]&procfs.SoftDirty != 0)
	}
	return nil
}
