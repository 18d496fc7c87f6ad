package image

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/xxh3"

	"github.com/migrate-hpc/migrate/stream"
)

// BlocksHead is the first frame of a stream of kind KindBlocks.
type BlocksHead struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
}

// Check refuses a head that a stranger might have made up.
func (h BlocksHead) Check(limit int64) error {
	if err := stream.CheckName(h.Name); err != nil {
		return err
	}
	if h.Size < 0 || h.Size > limit {
		return fmt.Errorf("%s of %d bytes: %w", h.Name, h.Size, ErrSize)
	}
	return nil
}

const (
	blockRef = 1
	// blockHeader and blockRefSize are the sizes in bytes of what precedes data, and
	// of what stands for it.
	blockHeader  = 8
	blockRefSize = 32
	maxBlocks    = 1 << 20 // a frame
	// smallest is the size in bytes from which on an image is worth the trouble.
	smallest = 256 << 10
)

// MaxRefs bounds how many parts of all images of a job may be spared: what the target
// remembers of each until the pages are there.
const MaxRefs = 1 << 22

// ErrBlocks is wrapped by every error about blocks that no one would have sent.
var ErrBlocks = errors.New("malformed blocks of an image")

// Ref says that a part of an image equals pages that the target has.
type Ref struct {
	Offset int64 // in the image
	Size   int64 // whole pages, at most MaxCopyPages
	From   stream.Place
	Sum    xxh3.Uint128 // of the bytes
}

// HoldsMemory tells whether an image holds pages of the job and is large enough for
// some of them to be spared.
func HoldsMemory(e os.DirEntry) bool {
	pages, _ := filepath.Match("pages-*.img", e.Name())
	ghost, _ := filepath.Match("ghost-file-*.img", e.Name())
	info, err := e.Info()
	return (pages || ghost) && err == nil && info.Mode().IsRegular() && info.Size() >= smallest
}

// Finder looks for a place on the target where there is a page. own is where the page
// is in the job, as far as the image's owner says.
type Finder func(page []byte, own stream.Place) (stream.Place, bool)

// PackBlocks writes an image to the frames of out, without the pages that find knows a
// place of on the target, but spares at most *refs parts, and counts them down.
func PackBlocks(dir, name string, owner Owner, find Finder, refs *int, out interface{ WriteFrame([]byte) error }) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	parts, err := memoryIn(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	head := BlocksHead{Name: name}
	for _, part := range parts {
		head.Size += part.size
	}
	first, err := json.Marshal(head)
	if err != nil {
		return err
	}
	if err := out.WriteFrame(first); err != nil {
		return err
	}
	p := &blockPacker{find: find, left: refs, owner: owner, out: out, frame: make([]byte, 0, maxBlocks), buf: make([]byte, stream.PageSize)}
	for _, part := range parts {
		r := bufio.NewReaderSize(io.NewSectionReader(f, part.offset, part.size), copyChunk)
		if err := p.part(r, part); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := p.endRef(); err != nil {
		return err
	}
	return p.flush()
}

// part is a part of an image: pages, or what is between them.
type part struct {
	offset, size int64
	pages        bool
}

type blockPacker struct {
	find  Finder
	left  *int // parts that may still be spared
	owner Owner
	out   interface{ WriteFrame([]byte) error }
	frame []byte
	data  int // where the run of data that is being written begins in frame, 0 for none
	ref   Ref // the one that is being put together; Size 0 for none
	hash  xxh3.Hasher
	buf   []byte
}

func (p *blockPacker) part(r io.Reader, about part) error {
	for left := about.size; left > 0; {
		block := p.buf[:min(left, stream.PageSize)]
		if _, err := io.ReadFull(r, block); err != nil {
			return err
		}
		left -= int64(len(block))
		var from stream.Place
		known := false
		if about.pages && len(block) == stream.PageSize {
			from, known = p.find(block, p.owner.next())
		}
		var err error
		if known && (*p.left > 0 || p.joins(from)) {
			err = p.spare(block, from)
		} else {
			err = p.write(block)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// joins tells whether a page belongs to the reference under way.
func (p *blockPacker) joins(from stream.Place) bool {
	next := stream.Place{VPID: p.ref.From.VPID, Addr: p.ref.From.Addr + uint64(p.ref.Size)}
	return p.ref.Size > 0 && p.ref.Size < stream.MaxCopyPages*stream.PageSize && from == next
}

// spare adds a page to the reference under way, or begins another.
func (p *blockPacker) spare(block []byte, from stream.Place) error {
	if !p.joins(from) {
		if err := p.endRef(); err != nil {
			return err
		}
		*p.left--
		p.ref.From = from
		p.hash.Reset()
	}
	p.ref.Size += stream.PageSize
	_, err := p.hash.Write(block)
	return err
}

func (p *blockPacker) endRef() error {
	if p.ref.Size == 0 {
		return nil
	}
	if err := p.room(blockHeader + blockRefSize); err != nil {
		return err
	}
	p.data = 0
	p.frame = binary.LittleEndian.AppendUint32(p.frame, uint32(p.ref.Size))
	p.frame = binary.LittleEndian.AppendUint32(p.frame, blockRef)
	p.frame = binary.LittleEndian.AppendUint32(p.frame, uint32(p.ref.From.VPID))
	p.frame = binary.LittleEndian.AppendUint32(p.frame, 0)
	p.frame = binary.LittleEndian.AppendUint64(p.frame, p.ref.From.Addr)
	sum := p.hash.Sum128().Bytes()
	p.frame = append(p.frame, sum[:]...)
	p.ref = Ref{}
	return nil
}

// write adds data to the frame.
func (p *blockPacker) write(block []byte) error {
	if err := p.endRef(); err != nil {
		return err
	}
	if err := p.room(blockHeader + len(block)); err != nil {
		return err
	}
	if p.data == 0 {
		p.frame = binary.LittleEndian.AppendUint64(p.frame, 0)
		p.data = len(p.frame)
	}
	p.frame = append(p.frame, block...)
	binary.LittleEndian.PutUint32(p.frame[p.data-blockHeader:], uint32(len(p.frame)-p.data))
	return nil
}

func (p *blockPacker) room(size int) error {
	if len(p.frame)+size <= maxBlocks {
		return nil
	}
	return p.flush()
}

func (p *blockPacker) flush() error {
	if len(p.frame) == 0 {
		return nil
	}
	err := p.out.WriteFrame(p.frame)
	p.frame, p.data = p.frame[:0], 0
	return err
}

// EachBlock takes a frame apart: it calls data for bytes at an offset of the image, and
// ref for what equals pages of the target. at is where the frame begins; where it ends
// is returned.
func EachBlock(frame []byte, at int64, data func(offset int64, p []byte) error, ref func(Ref) error) (end int64, err error) {
	for len(frame) > 0 {
		if len(frame) < blockHeader {
			return at, fmt.Errorf("%w: %d bytes left of a frame", ErrBlocks, len(frame))
		}
		size, kind := int64(binary.LittleEndian.Uint32(frame)), binary.LittleEndian.Uint32(frame[4:])
		frame = frame[blockHeader:]
		switch {
		case kind == 0 && size > 0 && size <= int64(len(frame)):
			err = data(at, frame[:size])
			frame = frame[size:]
		case kind == blockRef && len(frame) >= blockRefSize:
			var r Ref
			if r, err = parseRef(frame[:blockRefSize], at, size); err == nil {
				err = ref(r)
			}
			frame = frame[blockRefSize:]
		default:
			err = fmt.Errorf("%w: kind %d of %d bytes, %d left of the frame", ErrBlocks, kind, size, len(frame))
		}
		if err != nil {
			return at, err
		}
		at += size
	}
	return at, nil
}

func parseRef(b []byte, at, size int64) (Ref, error) {
	vpid, addr := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[8:])
	switch {
	case size <= 0 || size > stream.MaxCopyPages*stream.PageSize || size%stream.PageSize != 0:
		return Ref{}, fmt.Errorf("%w: %d bytes equal others", ErrBlocks, size)
	case vpid == 0 || vpid > 1<<31-1 || binary.LittleEndian.Uint32(b[4:]) != 0:
		return Ref{}, fmt.Errorf("%w: vpid %d", ErrBlocks, vpid)
	}
	sum := xxh3.Uint128{Hi: binary.BigEndian.Uint64(b[16:]), Lo: binary.BigEndian.Uint64(b[24:])}
	return Ref{at, size, stream.Place{VPID: stream.VPID(vpid), Addr: addr}, sum}, stream.CheckRange(ErrBlocks, addr, uint64(size/stream.PageSize))
}
