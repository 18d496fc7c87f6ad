package procfs

import (
	"os"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// TestTheOldWayFindsTheSamePages compares PAGEMAP_SCAN with the entries themselves.
func TestTheOldWayFindsTheSamePages(t *testing.T) {
	const pages = 3 * EntriesAtOnce
	mem, err := unix.Mmap(-1, 0, pages*PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
		t.Fatal(err)
	}
	base := uint64(uintptr(unsafe.Pointer(&mem[0])))
	var written, touched []span
	for _, run := range []span{{0, 1}, {5, 9}, {EntriesAtOnce - 1, EntriesAtOnce + 1}, {pages - 2, pages}} {
		for page := run.start; page < run.end; page++ {
			mem[page*PageSize] = 1
		}
		written = append(written, span{base + run.start*PageSize, base + run.end*PageSize})
	}
	const zero = 100
	sink = mem[zero*PageSize] // maps the page of zeros
	touched = slices.Insert(slices.Clone(written), 2, span{base + zero*PageSize, base + (zero+1)*PageSize})

	for _, c := range []struct {
		name       string
		old, zeros bool
		want       []span
	}{{"scan", false, false, written}, {"scan with zeros", false, true, touched}, {"entries", true, false, touched}} {
		table, err := OpenPagemap(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		table.old, table.Zeros = c.old, c.zeros
		var got []span
		err = table.Each(base, base+uint64(len(mem)), func(start, end uint64) error {
			if n := len(got); n > 0 && got[n-1].end == start {
				got[n-1].end = end
				return nil
			}
			got = append(got, span{start, end})
			return nil
		})
		table.Close()
		if err != nil {
			t.Fatal(err)
		}
		if table.old && !c.old {
			testenv.Missing(t, "this kernel has no PAGEMAP_SCAN (Linux 6.7)")
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

var sink byte
