package image

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/migrate-hpc/migrate/stream"
)

const (
	magicMM    = 0x57492820
	maxMMImage = 256 << 20
)

// Bits of vma_entry.status (CRIU, criu/include/image.h).
const (
	areaVsyscall = 1 << 2
	areaVDSO     = 1 << 3
	areaVVAR     = 1 << 12
)

// MakeLazy takes memory out of the images of a lazy dump that CRIU saves although its own
// rule says that it may be lazy, and returns how much that was, in bytes. CRIU (to 4.2)
// takes every page of a process for a stack if a thread's stack pointer is at the start of
// a page (is_stack in its mem.c).
//
// No page of such memory may stay in the images, not even a stack. A restore reads pages
// into private mappings that lie side by side, before it registers any for userfaultfd.
// Where transparent huge pages are on, one page that is read brings the zeros around it.
// Lazy pages there are no longer missed, and the job finds zeros.
func MakeLazy(dir string) (size int64, err error) {
	all, err := Pagemaps(dir)
	if err != nil {
		return 0, err
	}
	for vpid, regions := range all {
		if !slices.ContainsFunc(regions, inImages) {
			continue
		}
		n, err := makeLazy(dir, vpid, regions)
		if err != nil {
			return size, fmt.Errorf("make memory of process %d lazy: %w", vpid, err)
		}
		size += n
	}
	return size, nil
}

// inImages tells whether a region is in the images and not lazy.
func inImages(r Region) bool { return r.Present && !r.Lazy && !r.Parent }

// makeLazy does it for one process.
func makeLazy(dir string, vpid stream.VPID, regions []Region) (int64, error) {
	var space mm.MmEntry
	if err := readMessage(filepath.Join(dir, fmt.Sprintf("mm-%d.img", vpid)), magicMM, maxMMImage, &space); err != nil {
		return 0, err
	}
	apart := partRegions(regions, space.GetVmas())
	if slices.Equal(apart, regions) {
		return 0, nil
	}
	name := filepath.Join(dir, fmt.Sprintf("pagemap-%d.img", vpid))
	data, err := ReadBounded(name, maxPagemapImage)
	if err != nil {
		return 0, err
	}
	head, _, err := cutRecord(data[8:]) // both were checked
	if err != nil {
		return 0, err
	}
	var kept, all []Region // pages of the image
	for _, r := range regions {
		if r.Present {
			all = append(all, r)
		}
	}
	for _, r := range apart {
		if r.Present {
			kept = append(kept, r)
		}
	}
	pages := filepath.Join(dir, fmt.Sprintf("pages-%d.img", field(head, 1)))
	size, err := keepPages(pages, all, kept)
	if err != nil {
		return 0, err
	}
	image := appendRecord(slices.Clone(data[:8]), head)
	for _, r := range apart {
		image = appendRecord(image, encodeRegion(r))
	}
	//house:allow os.WriteFile: images are synced as a whole when they are sealed
	return size, os.WriteFile(name, image, 0o600)
}

// partRegions makes every page lazy that may be.
func partRegions(regions []Region, areas []*vma.VmaEntry) []Region {
	var apart []Region
	add := func(r Region, from, to uint64, lazy bool) {
		if from >= to {
			return
		}
		r.Addr, r.Pages = from, int64((to-from)/stream.PageSize)
		if lazy {
			r.Lazy, r.Present = true, false
		}
		if n := len(apart); n > 0 && apart[n-1].End() == r.Addr && inImages(apart[n-1]) && inImages(r) {
			apart[n-1].Pages += r.Pages
			return
		}
		apart = append(apart, r)
	}
	for _, r := range regions {
		if !inImages(r) {
			apart = append(apart, r)
			continue
		}
		at := r.Addr
		for at < r.End() {
			for len(areas) > 0 && areas[0].GetEnd() <= at {
				areas = areas[1:]
			}
			area, from, to := firstArea(areas, at, r.End())
			add(r, at, from, false)
			add(r, from, to, area)
			at = to
		}
	}
	return apart
}

// firstArea is what lies of the first area between two addresses, and whether memory of it
// may be lazy. Without any it is empty, at the end.
func firstArea(areas []*vma.VmaEntry, at, end uint64) (lazy bool, from, to uint64) {
	if len(areas) == 0 {
		return false, end, end
	}
	return mayBeLazy(areas[0]), min(max(at, areas[0].GetStart()), end), min(areas[0].GetEnd(), end)
}

// mayBeLazy is CRIU's own rule (vma_entry_can_be_lazy).
func mayBeLazy(a *vma.VmaEntry) bool {
	const must, mustNot = unix.MAP_ANONYMOUS | unix.MAP_PRIVATE, unix.MAP_LOCKED | unix.MAP_HUGETLB
	return a.GetFlags()&must == must && a.GetFlags()&mustNot == 0 && a.GetStatus()&(areaVDSO|areaVVAR|areaVsyscall) == 0
}

// keepPages writes an image of pages again with some of them. It returns how many bytes
// that has saved.
func keepPages(name string, all, kept []Region) (int64, error) {
	old, err := OpenRegular(name)
	if err != nil {
		return 0, err
	}
	defer old.Close()
	next, err := os.OpenFile(name+".kept", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer os.Remove(next.Name()) // unless it has become the image
	var before, after int64
	for _, r := range all {
		for len(kept) > 0 && kept[0].Addr < r.End() {
			part := kept[0]
			kept = kept[1:]
			from := before + int64(part.Addr-r.Addr)
			n, err := io.Copy(next, io.NewSectionReader(old, from, part.Pages*stream.PageSize))
			if err == nil && n != part.Pages*stream.PageSize {
				err = fmt.Errorf("%s: %w: it ends at %d", filepath.Base(name), ErrFormat, from+n)
			}
			if err != nil {
				return 0, errors.Join(err, next.Close())
			}
			after += n
		}
		before += r.Pages * stream.PageSize
	}
	if err := next.Close(); err != nil {
		return 0, err
	}
	//house:allow os.Rename: images are synced as a whole when they are sealed
	return before - after, os.Rename(next.Name(), name)
}

// encodeRegion encodes a pagemap_entry as CRIU 4.2 does, and as older ones read it.
func encodeRegion(r Region) []byte {
	flags := uint64(0)
	for _, f := range []struct {
		set bool
		bit uint64
	}{{r.Parent, flagParent}, {r.Lazy, flagLazy}, {r.Present, flagPresent}} {
		if f.set {
			flags |= f.bit
		}
	}
	var msg []byte
	for _, f := range []struct{ number, value uint64 }{{1, r.Addr}, {2, min(uint64(r.Pages), math.MaxUint32)}, {4, flags}, {5, uint64(r.Pages)}} {
		msg = protowire.AppendVarint(protowire.AppendTag(msg, protowire.Number(f.number), protowire.VarintType), f.value)
	}
	return msg
}
