package pages

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// softDirty asks for the soft-dirty bits of page tables, which the kernel sets at the
// first write after they were cleared (Documentation/admin-guide/mm/soft-dirty.rst).
//
// They are cleared once, before a process is read for the first time, and never again:
// clearing them between looking at the bits and reading would lose what is written in
// between. So the pages that have to be looked at only grow more, and what has really
// changed among them is found by comparing.
type softDirty struct {
	followed map[Task]string // identity when its bits were cleared
}

func (s *softDirty) name() string { return "soft-dirty" }

func (s *softDirty) begin(tasks []Task) (news []image.VPID) {
	now := map[Task]string{}
	for _, t := range tasks {
		id, err := identity(t.PID)
		if err != nil {
			continue
		}
		if was, ok := s.followed[t]; ok && was == id && !directIO(t.PID) {
			now[t] = id
		}
	}
	s.followed = now
	for _, t := range tasks {
		if _, ok := now[t]; ok {
			continue
		}
		if id, ok := s.follow(t); ok {
			now[t] = id
			news = append(news, t.VPID)
		}
	}
	return news
}

// follow clears the bits of a process, unless it shares its memory with one that is
// followed already (vfork does that): its bits are that one's too. The file is opened
// first, so that it is the process that was looked at, and no other with its pid.
func (s *softDirty) follow(t Task) (id string, ok bool) {
	file, err := os.OpenFile(fmt.Sprintf("/proc/%d/clear_refs", t.PID), os.O_WRONLY, 0)
	if err != nil {
		return "", false
	}
	defer file.Close()
	if id, err = identity(t.PID); err != nil || directIO(t.PID) {
		return "", false
	}
	for other := range s.followed {
		if shared, err := shareMemory(t.PID, other.PID); err != nil && !errors.Is(err, unix.ESRCH) || shared {
			return "", false
		}
	}
	_, err = file.WriteString("4")
	return id, err == nil
}

// shareMemory says whether two processes have one address space (kcmp(2), KCMP_VM).
func shareMemory(a, b int) (bool, error) {
	const vm = 1
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), vm, 0, 0, 0)
	if errno != 0 {
		return false, errno
	}
	return order == 0, nil
}

func (s *softDirty) changed(t Task, m addrRange) ([]addrRange, bool) {
	if _, ok := s.followed[t]; !ok {
		return nil, false
	}
	table, err := openPagemap(t.PID)
	if err != nil {
		return nil, false
	}
	defer table.close()
	var where []addrRange
	err = table.each(m, pageIsSoftDirty, func(r addrRange) error {
		where = append(where, r)
		return nil
	})
	return where, err == nil
}

func (s *softDirty) missed(t Task) { delete(s.followed, t) }
func (s *softDirty) close() error  { return nil }

// settle lets go of processes that are not those which were followed.
func (s *softDirty) settle([]Task) error {
	for t, was := range s.followed {
		if id, err := identity(t.PID); err != nil || id != was {
			delete(s.followed, t)
		}
	}
	return nil
}

var errNoSoftDirty = errors.New("this kernel has no soft-dirty bits")

// softDirtyWorks tries it on memory of our own: a write is found, what was not written
// is not, and neither does a move hide a change. Kernels move whole page tables without
// setting the bits of what is in them; there, soft-dirty bits cannot be relied on.
func softDirtyWorks() error {
	if _, err := shareMemory(os.Getpid(), os.Getpid()); err != nil {
		return fmt.Errorf("kcmp: %w", err)
	}
	const table = 2 << 20 // what one page table covers
	area, err := mapMemory(4 * table)
	if err != nil {
		return err
	}
	defer unix.MunmapPtr(unsafe.Pointer(&area[0]), uintptr(len(area)))
	if err := unix.Madvise(area, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	skip := -int(uintptr(unsafe.Pointer(&area[0]))) & (table - 1)
	from, to := area[skip:][:table], area[skip+table:][:table]
	from[0], from[len(from)-1], to[0], to[len(to)-1] = 1, 1, 2, 2
	clear, err := os.OpenFile("/proc/self/clear_refs", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer clear.Close()
	if _, err := clear.WriteString("4"); err != nil {
		return fmt.Errorf("%w: %w", errNoSoftDirty, err)
	}
	if found, err := softDirtyPages(from); err != nil || found != 0 {
		return fmt.Errorf("%w: %d pages are dirty after clearing: %v", errNoSoftDirty, found, err)
	}
	from[0] = 3
	if found, err := softDirtyPages(from); err != nil || found != 1 {
		return fmt.Errorf("%w: %d pages are dirty after one was written: %v", errNoSoftDirty, found, err)
	}
	if _, err := unix.MremapPtr(unsafe.Pointer(&from[0]), table, unsafe.Pointer(&to[0]), table, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED); err != nil {
		return err
	}
	if found, err := softDirtyPages(to); err != nil || found != 2 {
		return fmt.Errorf("%w that find what has moved: %d pages of 2, %v", errNoSoftDirty, found, err)
	}
	return nil
}

func softDirtyPages(mem []byte) (int, error) {
	table, err := openPagemap(os.Getpid())
	if err != nil {
		return 0, err
	}
	defer table.close()
	start := uint64(uintptr(unsafe.Pointer(&mem[0])))
	pages := 0
	err = table.each(addrRange{start, start + uint64(len(mem))}, pageIsSoftDirty, func(r addrRange) error {
		pages += int((r.end - r.start) / image.PageSize)
		return nil
	})
	return pages, err
}
