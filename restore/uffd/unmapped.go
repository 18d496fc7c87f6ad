package uffd

import (
	"fmt"

	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/restore/pageset"
)

// maxGap is a distance between ranges of missing pages, in bytes. The memory between closer ranges
// is searched too.
const maxGap = 64 << 20

// checkUnmapped asks the kernel whether none of the missing pages is mapped. A mapped page causes
// no fault, and the task would read what is there.
func (sp *space) checkUnmapped() error {
	sp.gate.Lock()
	defer sp.gate.Unlock()
	if sp.closed || sp.pid == 0 {
		return nil
	}
	table, err := procfs.OpenPagemap(sp.pid)
	if err != nil {
		return err
	}
	defer table.Close()
	table.Zeros = true
	for _, r := range closeRanges(sp.table.all()) {
		err := table.Each(r.Start, r.End, func(start, end uint64) error {
			for _, missing := range sp.table.within(start, end) {
				return fmt.Errorf("%w (%#x)", ErrAlreadyMapped, missing.Start)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// closeRanges joins spans, in order, that are not far apart.
func closeRanges(spans []pageset.Span) (out []pageset.Range) {
	for _, sp := range spans {
		if n := len(out); n > 0 && sp.Start-out[n-1].End < maxGap {
			out[n-1].End = sp.End
		} else {
			out = append(out, pageset.Range{Start: sp.Start, End: sp.End})
		}
	}
	return out
}
