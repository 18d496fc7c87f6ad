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

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/migrate-hpc/migrate/stream"
)

const (
	private = unix.MAP_PRIVATE
	anon    = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
)

// dumped is a directory as CRIU leaves it of a process 1. Each page of the image holds its
// own address.
type dumped struct {
	t   *testing.T
	dir string
}

func dump(t *testing.T, areas []*vma.VmaEntry, entries ...[]uint64) dumped {
	t.Helper()
	d := dumped{t, t.TempDir()}
	writeImage(t, d.path("mm-1.img"), magicMM, encoded(t, filled(&mm.MmEntry{Vmas: areas})))
	d.write("pagemap-1.img", pagemap(entries...))
	var pages []byte
	for _, r := range d.regions() {
		for addr := r.Addr; r.Present && addr < r.End(); addr += stream.PageSize {
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
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, addr), stream.PageSize/8)
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

// freed makes lazy what may be, and wants every page that is left in the image to be right.
func (d dumped) freed(want int64) []Region {
	d.t.Helper()
	if size, err := MakeLazy(d.dir); err != nil || size != want {
		d.t.Fatalf("%d bytes, %v; want %d", size, err, want)
	}
	rest, err := os.ReadFile(d.path("pages-1.img"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range d.regions() {
		for addr := r.Addr; r.Present && addr < r.End(); addr += stream.PageSize {
			if len(rest) < stream.PageSize || !bytes.Equal(rest[:stream.PageSize], pageOf(addr)) {
				d.t.Fatalf("the image has another page at %#x", addr)
			}
			rest = rest[stream.PageSize:]
		}
	}
	if len(rest) > 0 {
		d.t.Errorf("%d bytes too many in the image", len(rest))
	}
	return d.regions()
}

func TestMemoryThatMayBeLazyIsNeverInTheImages(t *testing.T) {
	d := dump(t,
		[]*vma.VmaEntry{area(0x4000, 0x6000, private), area(0x10000, 0x18000, anon), area(0x18000, 0x1a000, anon|unix.MAP_LOCKED), area(0x20000, 0x22000, anon)},
		[]uint64{1, 0x4000, 2, 2, 4, flagPresent},
		[]uint64{1, 0x10000, 2, 10, 4, flagPresent}, // over two areas
		[]uint64{1, 0x20000, 4, flagPresent, 5, 2},
		[]uint64{1, 0x30000, 2, 3, 4, flagLazy},
	)
	want := []Region{
		{Addr: 0x4000, Pages: 2, Present: true},
		{Addr: 0x10000, Pages: 8, Lazy: true},
		{Addr: 0x18000, Pages: 2, Present: true},
		{Addr: 0x20000, Pages: 2, Lazy: true},
		{Addr: 0x30000, Pages: 3, Lazy: true},
	}
	if got := d.freed(10 * stream.PageSize); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := d.freed(0); !slices.Equal(got, want) { // once more changes nothing
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestMemoryThatMayNotBeLazyStaysInTheImages(t *testing.T) {
	d := dump(t, []*vma.VmaEntry{area(0x10000, 0x14000, private), area(0x14000, 0x18000, anon|unix.MAP_LOCKED)}, []uint64{1, 0x10000, 2, 8, 4, flagPresent})
	before, err := os.ReadFile(d.path("pagemap-1.img"))
	if err != nil {
		t.Fatal(err)
	}
	d.freed(0)
	if after, err := os.ReadFile(d.path("pagemap-1.img")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the pagemap was changed (%v)", err)
	}
}

func TestMemoryOutsideOfAllAreasStaysInTheImage(t *testing.T) {
	d := dump(t, []*vma.VmaEntry{area(0x12000, 0x13000, anon)}, []uint64{1, 0x10000, 2, 8, 4, flagPresent})
	want := []Region{{Addr: 0x10000, Pages: 2, Present: true}, {Addr: 0x12000, Pages: 1, Lazy: true}, {Addr: 0x13000, Pages: 5, Present: true}}
	if got := d.freed(stream.PageSize); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestImagesThatDoNotFitTogetherAreNotMadeLazy(t *testing.T) {
	for name, harm := range map[string]func(d dumped){
		"no memory areas":      func(d dumped) { os.Remove(d.path("mm-1.img")) },
		"damaged memory areas": func(d dumped) { writeImage(t, d.path("mm-1.img"), magicMM, []byte{0xff}) },
		"empty memory areas":   func(d dumped) { writeImage(t, d.path("mm-1.img"), magicMM) },
		"pages cut short":      func(d dumped) { os.Truncate(d.path("pages-1.img"), stream.PageSize+1) },
		"no pages":             func(d dumped) { os.Remove(d.path("pages-1.img")) },
	} {
		d := dump(t, []*vma.VmaEntry{area(0x10000, 0x17000, anon), area(0x17000, 0x18000, private)}, []uint64{1, 0x10000, 2, 8, 4, flagPresent})
		before, _ := os.ReadFile(d.path("pagemap-1.img"))
		harm(d)
		_, err := MakeLazy(d.dir)
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
