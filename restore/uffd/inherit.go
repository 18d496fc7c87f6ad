package uffd

import (
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/restore/pageset"
)

// fork gives the child the pages that its parent, sp, still lacks.
func (sp *space) fork(fd int) error {
	s := sp.server
	child := &space{server: s, vpid: sp.vpid, forked: true, fd: fd, table: sp.table.clone()}
	if !child.table.empty() {
		ranges, err := notInherited(sp.pid)
		if err != nil {
			return errors.Join(fmt.Errorf("fork: %w", err), s.add(child))
		}
		for _, r := range ranges {
			child.table.cut(r.Start, r.End)
		}
	}
	s.store.Retain(child.table.all())
	s.total.Add(child.table.bytes())
	s.absent.Add(child.table.absent.Data)
	s.count(func(st *Stats) { st.Forks++ })
	return s.add(child)
}

// notInherited returns the mappings of a process whose pages a forked child does not have. They
// are wiped (MADV_WIPEONFORK) or left out (MADV_DONTFORK). The kernel gives the child's
// userfaultfd the wiped ones nevertheless. There are none for pid 0, or for a process that has
// ended while its memory lives on.
func notInherited(pid int) (out []pageset.Range, err error) {
	if pid == 0 {
		return nil, nil
	}
	list, err := procfs.Flagged(pid, "wf", "dc")
	if err != nil && !procfs.IsGone(err) {
		return nil, err
	}
	for _, m := range list {
		out = append(out, pageset.Range{Start: m.Start, End: m.End})
	}
	return out, nil
}
