package image

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
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

// FreeStacks takes out of the images of a lazy dump what is not meant to be there, and
// returns how much that was, in bytes: CRIU (to 4.2) leaves the page of each thread's
// stack pointer out of what is lazy, and where such a pointer is at the start of a page,
// it takes every page of the process for that one.
func FreeStacks(dir string) (size int64, err error) {
	stacks := map[VPID][]uint64{}
	if err := eachThread(dir, func(vpid VPID, e *criu_core.CoreEntry) {
		stacks[vpid] = append(stacks[vpid], e.GetThreadInfo().GetGpregs().GetSp())
	}); err != nil {
		return 0, err
	}
	for vpid, pointers := range stacks {
		if !slices.ContainsFunc(pointers, func(sp uint64) bool { return sp%PageSize == 0 && sp != 0 }) {
			continue
		}
		n, err := freeStacks(dir, vpid, pointers)
		if err != nil {
			return size, fmt.Errorf("make memory of process %d lazy: %w", vpid, err)
		}
		size += n
	}
	return size, nil
}

// freeStacks does it for one process.
func freeStacks(dir string, vpid VPID, pointers []uint64) (int64, error) {
	var space mm.MmEntry
	if err := readMessage(filepath.Join(dir, fmt.Sprintf("mm-%d.img", vpid)), magicMM, maxMMImage, &space); err != nil {
		return 0, err
	}
	name := filepath.Join(dir, fmt.Sprintf("pagemap-%d.img", vpid))
	data, err := readBounded(name, maxPagemapImage)
	if err != nil {
		return 0, err
	}
	regions, err := decodePagemap(data)
	if err != nil {
		return 0, err
	}
	head, _, err := cutRecord(data[8:]) // both were checked
	if err != nil {
		return 0, err
	}
	apart := partRegions(regions, space.GetVmas(), pointers)
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
	return size, os.WriteFile(name, image, 0o600)
}

// partRegions makes every page lazy that may be, but those of the stack pointers.
func partRegions(regions []Region, areas []*vma.VmaEntry, pointers []uint64) []Region {
	stays := make([]uint64, 0, len(pointers))
	for _, sp := range pointers {
		stays = append(stays, sp&^(PageSize-1))
	}
	slices.Sort(stays)
	var apart []Region
	add := func(r Region, from, to uint64, lazy bool) {
		if from >= to {
			return
		}
		r.Addr, r.Pages = from, int64((to-from)/PageSize)
		if lazy {
			r.Lazy, r.Present = true, false
		}
		apart = append(apart, r)
	}
	for _, r := range regions {
		if !r.Present || r.Lazy || r.Parent {
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
			for _, page := range stays {
				if area && page >= from && page < to {
					add(r, from, page, true)
					add(r, page, page+PageSize, false)
					from = max(from, page+PageSize)
				}
			}
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
	old, err := openRegular(name)
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
			n, err := io.Copy(next, io.NewSectionReader(old, from, part.Pages*PageSize))
			if err == nil && n != part.Pages*PageSize {
				err = fmt.Errorf("%s: %w: it ends at %d", filepath.Base(name), ErrFormat, from+n)
			}
			if err != nil {
				return 0, errors.Join(err, next.Close())
			}
			after += n
		}
		before += r.Pages * PageSize
	}
	if err := next.Close(); err != nil {
		return 0, err
	}
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
