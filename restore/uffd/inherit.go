package uffd

import (
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/restore/pageset"
)

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
