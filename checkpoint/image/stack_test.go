package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	core_x86 "github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	private = unix.MAP_PRIVATE
	anon    = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
)

// dumped is a directory as CRIU leaves it of a process 1 whose threads have these stack
// pointers. Each page of the image holds its own address.
type dumped struct {
	t   *testing.T
	dir string
}

func dump(t *testing.T, stacks []uint64, areas []*vma.VmaEntry, entries ...[]uint64) dumped {
	t.Helper()
	d := dumped{t, t.TempDir()}
	threads := make([]uint32, len(stacks))
	for i, sp := range stacks {
		threads[i] = uint32(i + 1)
		x86 := criu_core.CoreEntry_X86_64
		writeImage(t, d.path("core-%d.img", i+1), magicCore, encoded(t, filled(&criu_core.CoreEntry{Mtype: &x86,
			ThreadInfo: &core_x86.ThreadInfoX86{Gpregs: &core_x86.UserX86RegsEntry{Sp: &sp}}})))
	}
	writeImage(t, d.path("pstree.img"), magicPstree, encoded(t, &pstree.PstreeEntry{
		Pid: proto.Uint32(1), Ppid: proto.Uint32(0), Pgid: proto.Uint32(1), Sid: proto.Uint32(1), Threads: threads}))
	writeImage(t, d.path("mm-1.img"), magicMM, encoded(t, filled(&mm.MmEntry{Vmas: areas})))
	d.write("pagemap-1.img", pagemap(entries...))
	var pages []byte
	for _, r := range d.regions() {
		for addr := r.Addr; r.Present && addr < r.End(); addr += PageSize {
			pages = append(pages, pageOf(addr)...)
		}
	}
	d.write("pages-1.img", pages)
	return d
}

// filled sets every required field that is not set, and those of what is in it.
func filled[M proto.Message](m M) M {
	fillIn(m.ProtoReflect())
	return m
}

func fillIn(m protoreflect.Message) {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if f.Cardinality() == protoreflect.Required && !m.Has(f) {
			m.Set(f, m.NewField(f))
		}
		switch {
		case f.Kind() != protoreflect.MessageKind || !m.Has(f):
		case f.IsList():
			for k := range m.Get(f).List().Len() {
				fillIn(m.Get(f).List().Get(k).Message())
			}
		default:
			fillIn(m.Get(f).Message())
		}
	}
}

func area(start, end uint64, flags uint32) *vma.VmaEntry {
	return &vma.VmaEntry{Start: proto.Uint64(start), End: proto.Uint64(end), Flags: &flags, Status: proto.Uint32(1)}
}

func pageOf(addr uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, addr), PageSize/8)
}

func (d dumped) path(format string, args ...any) string {
	return filepath.Join(d.dir, fmt.Sprintf(format, args...))
}

func (d dumped) write(name string, data []byte) {
	d.t.Helper()
	if err := os.WriteFile(d.path("%s", name), data, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d dumped) regions() []Region {
	d.t.Helper()
	all, err := Pagemaps(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	return all[1]
}

// freed takes stacks out and wants every page that is left in the image to be right.
func (d dumped) freed(want int64) []Region {
	d.t.Helper()
	if size, err := FreeStacks(d.dir); err != nil || size != want {
		d.t.Fatalf("%d bytes, %v; want %d", size, err, want)
	}
	rest, err := os.ReadFile(d.path("pages-1.img"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range d.regions() {
		for addr := r.Addr; r.Present && addr < r.End(); addr += PageSize {
			if len(rest) < PageSize || !bytes.Equal(rest[:PageSize], pageOf(addr)) {
				d.t.Fatalf("the image has another page at %#x", addr)
			}
			rest = rest[PageSize:]
		}
	}
	if len(rest) > 0 {
		d.t.Errorf("%d bytes too many in the image", len(rest))
	}
	return d.regions()
}

func TestPagesThatAreNoStacksAreLazyAgain(t *testing.T) {
	d := dump(t, []uint64{0x13000, 0x16123},
		[]*vma.VmaEntry{area(0x4000, 0x6000, private), area(0x10000, 0x18000, anon), area(0x18000, 0x1a000, anon|unix.MAP_LOCKED), area(0x20000, 0x22000, anon)},
		[]uint64{1, 0x4000, 2, 2, 4, flagPresent},
		[]uint64{1, 0x10000, 2, 10, 4, flagPresent}, // over two areas
		[]uint64{1, 0x20000, 4, flagPresent, 5, 2},
		[]uint64{1, 0x30000, 2, 3, 4, flagLazy},
	)
	lazy, there := func(addr uint64, pages int64) Region { return Region{Addr: addr, Pages: pages, Lazy: true} },
		func(addr uint64, pages int64) Region { return Region{Addr: addr, Pages: pages, Present: true} }
	want := []Region{
		there(0x4000, 2),
		lazy(0x10000, 3), there(0x13000, 1), lazy(0x14000, 2), there(0x16000, 1), lazy(0x17000, 1),
		there(0x18000, 2),
		lazy(0x20000, 2),
		lazy(0x30000, 3),
	}
	if got := d.freed(8 * PageSize); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := d.freed(0); !slices.Equal(got, want) { // once more changes nothing
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestAProcessWhoseStacksCRIUFindsIsLeftAlone(t *testing.T) {
	d := dump(t, []uint64{0x13008, 0}, []*vma.VmaEntry{area(0x10000, 0x18000, anon)}, []uint64{1, 0x10000, 2, 8, 4, flagPresent})
	before := d.regions()
	if got := d.freed(0); !slices.Equal(got, before) {
		t.Errorf("got %+v", got)
	}
}

func TestMemoryOutsideOfAllAreasStaysInTheImage(t *testing.T) {
	d := dump(t, []uint64{0x1000}, []*vma.VmaEntry{area(0x12000, 0x13000, anon)}, []uint64{1, 0x10000, 2, 8, 4, flagPresent})
	want := []Region{{Addr: 0x10000, Pages: 2, Present: true}, {Addr: 0x12000, Pages: 1, Lazy: true}, {Addr: 0x13000, Pages: 5, Present: true}}
	if got := d.freed(PageSize); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestImagesThatDoNotFitTogetherAreNotMadeLazy(t *testing.T) {
	for name, harm := range map[string]func(d dumped){
		"no memory areas":      func(d dumped) { os.Remove(d.path("mm-1.img")) },
		"damaged memory areas": func(d dumped) { writeImage(t, d.path("mm-1.img"), magicMM, []byte{0xff}) },
		"empty memory areas":   func(d dumped) { writeImage(t, d.path("mm-1.img"), magicMM) },
		"a core of no kind":    func(d dumped) { writeImage(t, d.path("core-1.img"), magicPstree) },
		"pages cut short":      func(d dumped) { os.Truncate(d.path("pages-1.img"), PageSize+1) },
		"no pages":             func(d dumped) { os.Remove(d.path("pages-1.img")) },
	} {
		d := dump(t, []uint64{0x17000}, []*vma.VmaEntry{area(0x10000, 0x18000, anon)}, []uint64{1, 0x10000, 2, 8, 4, flagPresent})
		before, _ := os.ReadFile(d.path("pagemap-1.img"))
		harm(d)
		_, err := FreeStacks(d.dir)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if after, _ := os.ReadFile(d.path("pagemap-1.img")); !bytes.Equal(before, after) {
			t.Errorf("%s: the pagemap was changed", name)
		}
		if left, _ := filepath.Glob(d.path("*.kept")); len(left) > 0 {
			t.Errorf("%s: left behind: %q", name, left)
		}
		if name == "damaged memory areas" && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
