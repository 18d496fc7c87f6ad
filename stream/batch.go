package stream

import "encoding/binary"

// MaxBatch is the most bytes that a batch of runs has: it travels as one frame.
const MaxBatch = MaxFrame

// Batch collects pages to a batch of runs. A page that follows the one before it in
// memory, and is of its kind, joins its run.
type Batch struct {
	buf  []byte
	last Run // may grow; no pages: there is none
	at   int // of the header of last in buf
}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{buf: make([]byte, 0, MaxBatch)} }

// Bytes is the batch, valid until it changes.
func (b *Batch) Bytes() []byte { return b.buf }

// Reset empties the batch.
func (b *Batch) Reset() { b.buf, b.last = b.buf[:0], Run{} }

// Full says that there is no room for another page, of whatever kind.
func (b *Batch) Full() bool { return MaxBatch-len(b.buf) < RunHeaderSize+PageSize }

// Page adds a page with its data. The batch must not be full.
func (b *Batch) Page(vpid VPID, addr uint64, data []byte) {
	if !b.grow(Run{VPID: vpid, Addr: addr}) {
		b.begin(Run{VPID: vpid, Addr: addr}, AppendHeader(b.buf, vpid, addr, 1))
	}
	b.buf = append(b.buf, data[:PageSize]...)
}

// Zero adds a page of zeros. The batch must not be full.
func (b *Batch) Zero(vpid VPID, addr uint64) {
	if r := (Run{VPID: vpid, Addr: addr, Zero: true}); !b.grow(r) {
		b.begin(r, AppendZero(b.buf, vpid, addr, 1))
	}
}

// Drop adds a page that is to be forgotten. The batch must not be full.
func (b *Batch) Drop(vpid VPID, addr uint64) {
	if r := (Run{VPID: vpid, Addr: addr, Drop: true}); !b.grow(r) {
		b.begin(r, AppendDrop(b.buf, vpid, addr, 1))
	}
}

// Copy adds a page that equals the one at from. The batch must not be full.
func (b *Batch) Copy(vpid VPID, addr uint64, from Place) {
	if r := (Run{VPID: vpid, Addr: addr, Copy: true, From: from}); !b.grow(r) {
		b.begin(r, AppendCopy(b.buf, vpid, addr, 1, from))
	}
}

func (b *Batch) begin(r Run, buf []byte) {
	r.Pages = 1
	b.last, b.at, b.buf = r, len(b.buf), buf
}

// grow makes the last run one page longer, if r follows it.
func (b *Batch) grow(r Run) bool {
	l, size := &b.last, uint64(b.last.Pages)*PageSize
	if l.Pages == 0 || l.VPID != r.VPID || l.flags() != r.flags() || l.Addr+size != r.Addr {
		return false
	}
	if r.Copy && !l.copyGoesOn(r, size) {
		return false
	}
	l.Pages++
	binary.LittleEndian.PutUint32(b.buf[b.at+16:], uint32(l.Pages))
	return true
}

// copyGoesOn says that r, which follows, is also copied from what follows, without
// the two ranges growing into each other.
func (l *Run) copyGoesOn(r Run, size uint64) bool {
	if l.From.VPID != r.From.VPID || l.From.Addr+size != r.From.Addr || l.Pages == MaxCopyPages {
		return false
	}
	size += PageSize
	return l.VPID != l.From.VPID || l.Addr >= l.From.Addr+size || l.From.Addr >= l.Addr+size
}
