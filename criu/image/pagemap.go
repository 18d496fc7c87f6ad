package image

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/migrate-hpc/migrate/stream"
)

// Bits of pagemap_entry.flags (CRIU, criu/include/pagemap.h).
const (
	flagParent  = 1 << 0
	flagLazy    = 1 << 1
	flagPresent = 1 << 2
)

// Region is one entry of a pagemap: consecutive pages that share a fate.
type Region struct {
	Addr    uint64 // in bytes, a multiple of PageSize
	Pages   int64
	Lazy    bool // may be brought after the restore, by the fault server
	Present bool // the data is in the pages image of the same directory
	Parent  bool // the data is in an earlier image
}

// End is the address behind the region's last page.
func (r Region) End() uint64 { return r.Addr + uint64(r.Pages)*stream.PageSize }

// Pagemaps reads the pagemap of every process in an image directory. Pagemaps
// of shared memory are no part of it: that memory is never lazy. The regions of
// a process are sorted by address and do not overlap. A directory without any
// pagemap is an error that wraps ErrMissing.
func Pagemaps(dir string) (map[stream.VPID][]Region, error) {
	names, err := filepath.Glob(filepath.Join(dir, "pagemap-*.img"))
	if err != nil {
		return nil, fmt.Errorf("list pagemaps in %s: %w", dir, err)
	}
	all := make(map[stream.VPID][]Region)
	for _, name := range names {
		vpid, ok := pagemapVPID(filepath.Base(name))
		if !ok {
			continue
		}
		if all[vpid], err = readPagemap(name); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("pagemaps in %s: %w", dir, ErrMissing)
	}
	return all, nil
}

// pagemapVPID takes "pagemap-17.img" apart and refuses "pagemap-shmem-17.img".
func pagemapVPID(base string) (stream.VPID, bool) {
	id := strings.TrimSuffix(strings.TrimPrefix(base, "pagemap-"), ".img")
	n, err := strconv.ParseInt(id, 10, 32)
	return stream.VPID(n), err == nil && n > 0 && strconv.FormatInt(n, 10) == id
}

// maxPagemapImage bounds a pagemap-*.img, in bytes: some ten million regions.
const maxPagemapImage = 256 << 20

func readPagemap(name string) ([]Region, error) {
	data, err := ReadBounded(name, maxPagemapImage)
	if err != nil {
		return nil, fmt.Errorf("read pagemap: %w", err)
	}
	regions, err := decodePagemap(data)
	if err != nil {
		return nil, fmt.Errorf("read pagemap %s: %w", name, err)
	}
	return regions, nil
}

// decodePagemap decodes a pagemap image: a head record, then one per region.
func decodePagemap(data []byte) ([]Region, error) {
	rest, err := cutMagic(data, magicPagemap)
	if err != nil {
		return nil, err
	}
	if _, rest, err = cutRecord(rest); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	var regions []Region
	for len(rest) > 0 {
		var record []byte
		if record, rest, err = cutRecord(rest); err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(regions), err)
		}
		r, err := decodeRegion(record)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(regions), err)
		}
		if n := len(regions); n > 0 && r.Addr < regions[n-1].End() {
			return nil, fmt.Errorf("%w: entry %d at %#x overlaps the one before", ErrFormat, n, r.Addr)
		}
		regions = append(regions, r)
	}
	return slices.Clip(regions), nil
}

// decodeRegion decodes one pagemap_entry. Its rules for what older versions of
// CRIU left out are those of init_compat_pagemap_entry (criu/pagemap.c): the
// count is in field 5 (from 4.2 on) or else in field 2, and an entry without
// flags is in the parent if field 3 says so and present otherwise.
func decodeRegion(record []byte) (Region, error) {
	var f [6]uint64
	var has [6]bool
	if err := eachVarint(record, func(num protowire.Number, v uint64) {
		if num < 6 {
			f[num], has[num] = v, true
		}
	}); err != nil {
		return Region{}, err
	}
	flags, pages := f[4], f[2]
	if has[5] {
		pages = f[5]
	}
	switch {
	case f[3] != 0:
		flags |= flagParent
	case !has[4]:
		flags = flagPresent
	}
	if !has[1] || pages == 0 {
		return Region{}, fmt.Errorf("%w: no address or no pages", ErrFormat)
	}
	if err := stream.CheckRange(ErrFormat, f[1], pages); err != nil {
		return Region{}, err
	}
	return Region{Addr: f[1], Pages: int64(pages), Lazy: flags&flagLazy != 0,
		Present: flags&flagPresent != 0, Parent: flags&flagParent != 0}, nil
}

// eachVarint calls fn for every varint field of a message and skips the others.
func eachVarint(msg []byte, fn func(protowire.Number, uint64)) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return errors.Join(ErrFormat, protowire.ParseError(n))
		}
		msg = msg[n:]
		if typ == protowire.VarintType {
			var v uint64
			if v, n = protowire.ConsumeVarint(msg); n >= 0 {
				fn(num, v)
			}
		} else {
			n = protowire.ConsumeFieldValue(num, typ, msg)
		}
		if n < 0 {
			return errors.Join(ErrFormat, protowire.ParseError(n))
		}
		msg = msg[n:]
	}
	return nil
}

// Owner is the process whose memory an image of pages holds, and where; the zero Owner
// is nobody.
type Owner struct {
	vpid    stream.VPID
	regions []Region // that are in the image
	done    int64    // pages of the first
}

// Owners finds the owner of each image of pages in a directory, by its name. Shared
// memory has none.
func Owners(dir string) (map[string]Owner, error) {
	all, err := Pagemaps(dir)
	if err != nil {
		return nil, err
	}
	owners := map[string]Owner{}
	for vpid, regions := range all {
		data, err := ReadBounded(filepath.Join(dir, fmt.Sprintf("pagemap-%d.img", vpid)), maxPagemapImage)
		if err != nil {
			return nil, err
		}
		head, err := cutMagic(data, magicPagemap)
		if err == nil {
			head, _, err = cutRecord(head)
		}
		if err != nil {
			return nil, fmt.Errorf("head of the pagemap of %d: %w", vpid, err)
		}
		present := slices.DeleteFunc(regions, func(r Region) bool { return !r.Present })
		owners[fmt.Sprintf("pages-%d.img", field(head, 1))] = Owner{vpid: vpid, regions: present}
	}
	return owners, nil
}

// OwnedPages is how much memory of processes is in the images of pages in a directory, in
// bytes.
func OwnedPages(dir string) (size int64, err error) {
	all, err := Pagemaps(dir)
	for _, regions := range all {
		for _, r := range regions {
			if r.Present {
				size += r.Pages * stream.PageSize
			}
		}
	}
	return size, err
}

// next is the place of the next page in the image.
func (o *Owner) next() stream.Place {
	if len(o.regions) == 0 {
		return stream.Place{}
	}
	r := o.regions[0]
	at := stream.Place{VPID: o.vpid, Addr: r.Addr + uint64(o.done)*stream.PageSize}
	if o.done++; o.done == r.Pages {
		o.regions, o.done = o.regions[1:], 0
	}
	return at
}
