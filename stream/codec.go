package stream

import (
	"fmt"
	"unsafe"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec is how one frame's payload is packed; its value is the byte in the frame header.
type Codec uint8

// The codecs of stream version 1.
const (
	None Codec = 0
	S2   Codec = 1 // S2 block format; faster than a 10 Gbit/s link per core, or nearly
	Zstd Codec = 2 // one Zstandard frame, fastest level
	auto Codec = 255
)

func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case S2:
		return "s2"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// alignedBuffer returns n bytes that begin on a page, so that whole pages in a frame can be handed to the kernel.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+PageSize)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (PageSize - 1))
	return b[skip : skip+n : skip+n]
}

// atLeast returns b if it has n bytes (at most MaxFrame), or else a larger buffer. Short streams stay cheap.
func atLeast(b []byte, n int) []byte {
	if len(b) >= n {
		return b
	}
	return alignedBuffer(min(max(n, 2*len(b)), MaxFrame))
}

// encoder packs frames into one buffer of its own, which the next call overwrites.
type encoder struct {
	buf  []byte
	zstd *zstd.Encoder
}

// encode returns src packed with codec, or nil if that is not smaller than src.
func (e *encoder) encode(codec Codec, src []byte) ([]byte, error) {
	if need := s2.MaxEncodedLen(len(src)); len(e.buf) < need {
		e.buf = make([]byte, need)
	}
	var out []byte
	switch codec {
	case S2:
		out = s2.Encode(e.buf, src)
	case Zstd:
		if err := e.startZstd(); err != nil {
			return nil, err
		}
		out = e.zstd.EncodeAll(src, e.buf[:0])
	}
	if len(out) == 0 || len(out) >= len(src) {
		return nil, nil
	}
	return out, nil
}

func (e *encoder) startZstd() (err error) {
	if e.zstd == nil {
		e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(MaxFrame), zstd.WithEncoderCRC(false))
	}
	return err
}

// decoder unpacks frames into one buffer of its own, which the next call overwrites.
type decoder struct {
	buf  []byte
	zstd *zstd.Decoder
}

// decode unpacks src to exactly raw bytes; raw must have been checked against MaxFrame.
func (d *decoder) decode(codec Codec, src []byte, raw int) ([]byte, error) {
	d.buf = atLeast(d.buf, raw)
	var out []byte
	var err error
	switch codec {
	case S2:
		out, err = d.decodeS2(src, raw)
	case Zstd:
		out, err = d.decodeZstd(src, raw)
	default:
		err = fmt.Errorf("unknown %s", codec)
	}
	if err == nil && len(out) != raw {
		err = fmt.Errorf("%d bytes, not %d", len(out), raw)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: frame does not unpack: %w", ErrCorrupt, err)
	}
	return out, nil
}

func (d *decoder) decodeS2(src []byte, raw int) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return nil, err
	}
	if n != raw {
		return nil, fmt.Errorf("%d bytes announced within, not %d", n, raw)
	}
	return s2.Decode(d.buf[:raw], src)
}

// decodeZstd is held to the buffer: the decoder refuses a frame that would unpack to more.
func (d *decoder) decodeZstd(src []byte, raw int) (_ []byte, err error) {
	if d.zstd == nil {
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxFrame),
			zstd.WithDecoderMaxWindow(MaxFrame), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
	}
	return d.zstd.DecodeAll(src, d.buf[:0:raw])
}

// close ends the decoder's own resources.
func (d *decoder) close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}
