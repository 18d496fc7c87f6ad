package image

import (
	"bytes"
	"os"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/stream"
)

func mapped(start, end uint64, prot, flags, status uint32) *vma.VmaEntry {
	a := area(start, end, flags)
	a.Prot, a.Status = &prot, &status
	return a
}

func (d dumped) areas() []*vma.VmaEntry {
	d.t.Helper()
	var space mm.MmEntry
	if err := readMessage(d.path("mm-1.img"), magicMM, maxMMImage, &space); err != nil {
		d.t.Fatal(err)
	}
	return space.GetVmas()
}

func TestOnlyReservedAddressSpaceIsMappedAsItsProgramDid(t *testing.T) {
	const size = leastReserve
	const plain = areaRegular | anonPrivate
	none := uint32(unix.PROT_NONE)
	cases := []struct {
		name               string
		prot, flags        uint32
		status             uint32
		length             uint64
		page, wantReserved bool
	}{
		{"reserved", none, anon, plain, size, false, true},
		{"reserved, and not counted", none, anon | unix.MAP_NORESERVE, plain, size, false, true},
		{"larger than any memory", none, anon, plain, 16 << 40, false, true},
		{"readable", unix.PROT_READ | unix.PROT_EXEC, anon, plain, size, false, true},
		{"with a page", none, anon, plain, size, true, false},
		{"writable", unix.PROT_READ | unix.PROT_WRITE, anon, plain, size, false, false},
		{"small", none, anon, plain, size - stream.PageSize, false, false},
		{"a stack", none, anon | unix.MAP_GROWSDOWN, plain, size, false, false},
		{"locked", none, anon | unix.MAP_LOCKED, plain, size, false, false},
		{"huge pages", none, anon | unix.MAP_HUGETLB, plain, size, false, false},
		{"shared", none, unix.MAP_SHARED | unix.MAP_ANONYMOUS, areaRegular | 1<<8, size, false, false},
		{"a file", none, private, areaRegular | 1<<6, size, false, false},
		{"a vDSO", none, anon, plain | areaVDSO, size, false, false},
	}
	var areas []*vma.VmaEntry
	var pages [][]uint64
	at := uint64(1 << 32)
	for _, c := range cases {
		areas = append(areas, mapped(at, at+c.length, c.prot, c.flags, c.status))
		if c.page {
			pages = append(pages, []uint64{1, at + c.length - stream.PageSize, 2, 1, 4, flagLazy, 5, 1})
		}
		at += c.length
	}
	areas = append(areas, mapped(1<<32, 1<<32+stream.PageSize, none, 0, 1<<16)) // a guard: they are at the end
	d := dump(t, areas, pages...)
	if err := ReserveAsBefore(d.dir); err != nil {
		t.Fatal(err)
	}
	now := d.areas()
	for i, c := range cases {
		want := c.status
		if c.wantReserved {
			want = areaRegular | noProtWrite
		}
		if got := now[i]; got.GetStatus() != want || got.GetFlags() != c.flags || got.GetProt() != c.prot {
			t.Errorf("%s: status %#x, want %#x; flags %#x, protection %d", c.name, got.GetStatus(), want, got.GetFlags(), got.GetProt())
		}
	}
	if len(now) != len(areas) || !proto.Equal(now[len(cases)], areas[len(cases)]) {
		t.Errorf("%d areas, the last one %v", len(now), now[len(now)-1])
	}
	once, _ := os.ReadFile(d.path("mm-1.img"))
	if err := ReserveAsBefore(d.dir); err != nil {
		t.Fatal(err)
	}
	if twice, err := os.ReadFile(d.path("mm-1.img")); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("done twice it is another image (%v)", err)
	}
}

func TestReservedAddressSpaceOfADamagedImageIsAnError(t *testing.T) {
	d := dump(t, []*vma.VmaEntry{mapped(1<<32, 1<<33, 0, anon, areaRegular|anonPrivate)}, nil...)
	whole, err := os.ReadFile(d.path("mm-1.img"))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{nil, whole[:8], whole[:len(whole)-1]} {
		d.write("mm-1.img", data)
		if err := ReserveAsBefore(d.dir); err == nil {
			t.Errorf("%d bytes are taken for an image", len(data))
		}
	}
}
