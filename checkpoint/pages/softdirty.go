package pages

import (
	"errors"
	"fmt"
	"os"
	"slices"
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
//
// The bits are true of a page table, and mremap moves whole tables, with the bits as they
// are, from 2 MiB to others (move_normal_pmd in mm/mremap.c). So they count only for a
// table that is still the one that was there: one of a few pages that were sampled has
// neither been written nor got another frame. Pages that are the table's alone are
// sampled, because only those can be in no other. The same is asked right before and
// after pages are read, so that what was read is what the table holds. Only a process
// that moves a table away and back in the few microseconds in between would escape.
type softDirty struct {
	followed map[Task]*dirtyBits
}

// dirtyBits is what is known of the bits of a process.
type dirtyBits struct {
	id     string // of the process when they were cleared
	table  *pagemap
	tables map[uint64][]sample // by the first address of ours that the table covers
}

// sample is a page that was clean, and its frame.
type sample struct {
	addr  uint64
	frame uint64
}

// holds says that the page is still clean and where it was.
func (s sample) holds(entry uint64) bool {
	return entry&entrySoftDirty == 0 && entry&entryPresent != 0 && entry&entryFrame == s.frame
}

// maxSamples is how many pages of a table are sampled.
const maxSamples = 4

func (s *softDirty) name() string { return "soft-dirty" }

func (s *softDirty) begin(tasks []Task) (news []image.VPID) {
	now := map[Task]*dirtyBits{}
	for _, t := range tasks {
		id, err := identity(t.PID)
		if err != nil {
			continue
		}
		if b := s.followed[t]; b != nil && b.id == id && !directIO(t.PID) {
			now[t] = b
			delete(s.followed, t)
		}
	}
	_ = s.close() // of those that are gone
	s.followed = now
	for _, t := range tasks {
		if _, ok := now[t]; ok {
			continue
		}
		if id, ok := s.follow(t); ok {
			table, err := openPagemap(t.PID)
			if err != nil {
				continue
			}
			now[t] = &dirtyBits{id, table, map[uint64][]sample{}}
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

func (s *softDirty) changed(t Task, m addrRange) (where []addrRange, known bool) {
	b := s.followed[t]
	if b == nil {
		return nil, false
	}
	next := m.start
	err := b.table.each(m, func(found addrRange) error {
		for next = max(next, found.start&^(chunkSize-1), m.start); next < found.end; {
			part := addrRange{next, min(next&^(chunkSize-1)+chunkSize, m.end)}
			next = part.end
			entries, err := b.table.read(part)
			if err != nil {
				return err
			}
			where = append(where, b.written(part, entries)...)
		}
		return nil
	})
	return where, err == nil
}

// written lists the pages that may have been written, of a range that one table covers.
func (b *dirtyBits) written(r addrRange, entries []uint64) []addrRange {
	stayed := slices.ContainsFunc(b.tables[r.start], func(s sample) bool {
		i := (s.addr - r.start) / image.PageSize
		return i < uint64(len(entries)) && s.holds(entries[i])
	})
	var samples []sample
	var where []addrRange
	for i, e := range entries {
		addr := r.start + uint64(i)*image.PageSize
		switch {
		case e&(entryPresent|entrySwapped) == 0:
		case e&entrySoftDirty != 0:
			where = appendRange(where, addrRange{addr, addr + image.PageSize})
		case e&entryExclusive != 0 && e&entryPresent != 0 && len(samples) < maxSamples:
			samples = append(samples, sample{addr, e & entryFrame})
		}
	}
	b.tables[r.start] = samples
	if !stayed {
		return []addrRange{r}
	}
	return where
}

// stays returns what finds out whether the table at addr is still that of the last look.
func (s *softDirty) stays(t Task, m addrRange, addr uint64) func() bool {
	b := s.followed[t]
	if b == nil {
		return nil
	}
	samples := b.tables[max(addr&^(chunkSize-1), m.start)]
	return func() bool {
		return slices.ContainsFunc(samples, func(s sample) bool {
			entry, err := b.table.entry(s.addr)
			return err == nil && s.holds(entry)
		})
	}
}

// appendRange adds a range behind others.
func appendRange(list []addrRange, r addrRange) []addrRange {
	if n := len(list); n > 0 && list[n-1].end == r.start {
		list[n-1].end = r.end
		return list
	}
	return append(list, r)
}

func (s *softDirty) missed(t Task) {
	if b := s.followed[t]; b != nil {
		b.table.close()
		delete(s.followed, t)
	}
}

func (s *softDirty) close() error {
	for t := range s.followed {
		s.missed(t)
	}
	return nil
}

// settle lets go of processes that are not those which were followed.
func (s *softDirty) settle([]Task) error {
	for t, b := range s.followed {
		if id, err := identity(t.PID); err != nil || id != b.id {
			s.missed(t)
		}
	}
	return nil
}

var errNoSoftDirty = errors.New("this kernel has no soft-dirty bits")

// softDirtyWorks tries it on memory of our own: a write is found, and what was not
// written is not.
func softDirtyWorks() error {
	if _, err := shareMemory(os.Getpid(), os.Getpid()); err != nil {
		return fmt.Errorf("kcmp: %w", err)
	}
	mem, err := mapMemory(2 * image.PageSize)
	if err != nil {
		return err
	}
	defer unix.MunmapPtr(unsafe.Pointer(&mem[0]), uintptr(len(mem)))
	mem[0], mem[image.PageSize] = 1, 1
	clear, err := os.OpenFile("/proc/self/clear_refs", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer clear.Close()
	if _, err := clear.WriteString("4"); err != nil {
		return fmt.Errorf("%w: %w", errNoSoftDirty, err)
	}
	mem[image.PageSize] = 2
	table, err := openPagemap(os.Getpid())
	if err != nil {
		return err
	}
	defer table.close()
	start := uint64(uintptr(unsafe.Pointer(&mem[0])))
	e, err := table.read(addrRange{start, start + uint64(len(mem))})
	switch {
	case err != nil:
		return err
	case e[0]&entrySoftDirty != 0 || e[1]&entrySoftDirty == 0:
		return fmt.Errorf("%w: after a write they are %v and %v", errNoSoftDirty, e[0]&entrySoftDirty != 0, e[1]&entrySoftDirty != 0)
	case e[0]&entryFrame == 0:
		return errors.New("the kernel hides where pages are: CAP_SYS_ADMIN is missing")
	}
	return nil
}
