package stream

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

// DigestSize is the size in bytes of what a page is compared by.
const DigestSize = 16

const (
	digestHeaderSize = 16
	digestHeadSize   = 8
)

// ErrDigests is wrapped by every error about a malformed batch of digests.
var ErrDigests = errors.New("malformed batch of page digests")

// PageDigest is what a page is compared by. Both sides know the seed; it is another for
// each move, so that a job cannot prepare two pages that are alike by it.
func PageDigest(seed uint64, page []byte) [DigestSize]byte {
	return xxh3.Hash128Seed(page, seed).Bytes()
}

// DigestHead is the first frame of a stream of digests.
func DigestHead(seed uint64) []byte { return binary.LittleEndian.AppendUint64(nil, seed) }

// ParseDigestHead reads it.
func ParseDigestHead(frame []byte) (seed uint64, err error) {
	if len(frame) != digestHeadSize {
		return 0, fmt.Errorf("%w: a head of %d bytes", ErrDigests, len(frame))
	}
	return binary.LittleEndian.Uint64(frame), nil
}

// Digests are those of consecutive pages of one process.
type Digests struct {
	VPID VPID
	Addr uint64 // in bytes, a multiple of PageSize
	Sums []byte // DigestSize bytes for each page; a part of the frame
}

// Pages is how many there are.
func (d Digests) Pages() int64 { return int64(len(d.Sums) / DigestSize) }

// DigestBatch collects digests to a frame.
type DigestBatch struct {
	buf  []byte
	vpid VPID
	next uint64 // the page behind the last
	at   int    // of the header of the last run
}

// Bytes is the batch, valid until it changes.
func (b *DigestBatch) Bytes() []byte { return b.buf }

// Reset empties the batch.
func (b *DigestBatch) Reset() { b.buf, b.vpid = b.buf[:0], 0 }

// Full says that there is no room for another page.
func (b *DigestBatch) Full() bool { return MaxBatch-len(b.buf) < digestHeaderSize+DigestSize }

// Add adds the digest of a page. The batch must not be full.
func (b *DigestBatch) Add(vpid VPID, addr uint64, sum [DigestSize]byte) {
	if b.vpid != vpid || b.next != addr {
		b.vpid, b.at = vpid, len(b.buf)
		b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(vpid))
		b.buf = binary.LittleEndian.AppendUint32(b.buf, 0)
		b.buf = binary.LittleEndian.AppendUint64(b.buf, addr)
	}
	b.buf = append(b.buf, sum[:]...)
	b.next = addr + PageSize
	count := b.buf[b.at+4:]
	binary.LittleEndian.PutUint32(count, binary.LittleEndian.Uint32(count)+1)
}

// EachDigests calls fn for every run of digests in the frame, in order, and stops at the
// first error.
func EachDigests(frame []byte, fn func(Digests) error) error {
	for off := 0; off < len(frame); {
		d, size, err := parseDigests(frame[off:])
		if err != nil {
			return fmt.Errorf("digests at byte %d of %d: %w", off, len(frame), err)
		}
		if err := fn(d); err != nil {
			return err
		}
		off += size
	}
	return nil
}

func parseDigests(b []byte) (Digests, int, error) {
	if len(b) < digestHeaderSize {
		return Digests{}, 0, fmt.Errorf("%w: %d bytes left, a header has %d", ErrDigests, len(b), digestHeaderSize)
	}
	vpid, pages := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	addr := binary.LittleEndian.Uint64(b[8:])
	size := digestHeaderSize + int64(pages)*DigestSize
	switch {
	case vpid == 0 || vpid > 1<<31-1:
		return Digests{}, 0, fmt.Errorf("%w: vpid %d", ErrDigests, vpid)
	case pages == 0 || size > int64(len(b)):
		return Digests{}, 0, fmt.Errorf("%w: %d pages named, %d bytes left", ErrDigests, pages, len(b)-digestHeaderSize)
	}
	if err := CheckRange(ErrDigests, addr, uint64(pages)); err != nil {
		return Digests{}, 0, err
	}
	return Digests{VPID: VPID(vpid), Addr: addr, Sums: b[digestHeaderSize:size:size]}, int(size), nil
}
