package pages

import (
	"bytes"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// builder makes frames, one after the other, in one buffer.
type builder struct {
	buf    []byte
	slots  [][]byte // where in buf the data of each piece is read to
	reader reader
	zero   [image.PageSize]byte
}

func newBuilder() *builder { return &builder{buf: make([]byte, maxFrame)} }

// build reads the pieces, which fit a frame, and returns the frame. It is valid until
// the next call.
func (b *builder) build(pieces []piece) ([]byte, Stats, error) {
	b.slots = b.slots[:0]
	off := int64(0)
	for _, p := range pieces {
		off += image.RunHeaderSize
		b.slots = append(b.slots, b.buf[off:off+p.size()])
		off += p.size()
	}
	if err := b.reader.read(pieces, b.slots); err != nil {
		return nil, Stats{}, err
	}
	stats := Stats{Frames: 1}
	frame := b.buf[:0]
	for i, p := range pieces {
		var zeros int64
		frame, zeros = b.pack(frame, p, b.slots[i])
		stats.Pages += p.pages
		stats.ZeroPages += zeros
		stats.Bytes += p.size()
	}
	stats.FrameSize = int64(len(frame))
	return frame, stats, nil
}

// pack appends the runs of one piece to the frame. data lies further on in the frame's
// own buffer, one header behind its end at least, and moves down if runs before it have
// shrunk. Every zero page frees more than the headers around it take, so the frame's
// end never overtakes what has not been looked at.
func (b *builder) pack(frame []byte, p piece, data []byte) ([]byte, int64) {
	var zeros int64
	for len(data) > 0 {
		zero := b.isZero(data)
		size := image.PageSize
		for size < len(data) && b.isZero(data[size:]) == zero {
			size += image.PageSize
		}
		pages := int64(size / image.PageSize)
		if zero {
			frame = image.AppendZero(frame, p.vpid, p.addr, pages)
			zeros += pages
		} else {
			frame = image.AppendHeader(frame, p.vpid, p.addr, pages)
			frame = moveDown(frame, data[:size])
		}
		p.addr += uint64(size)
		data = data[size:]
	}
	return frame, zeros
}

// moveDown is append, but free when the data lies right behind the frame already.
func moveDown(frame, data []byte) []byte {
	end := frame[:len(frame)+len(data)]
	if &end[len(frame)] != &data[0] {
		copy(end[len(frame):], data)
	}
	return end
}

// isZero looks at the first page of data. Most pages differ in their first bytes.
func (b *builder) isZero(data []byte) bool {
	return data[0] == 0 && bytes.Equal(data[:image.PageSize], b.zero[:])
}
