package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxFrame is the largest payload of a stream's frame, in bytes, before compression.
const MaxFrame = 1 << 20

const (
	streamMagic   = "MGRS"
	streamVersion = 1
	headerSize    = 16 // of a stream and of a frame
	endSize       = 32 // body of the END frame
)

// Errors of a stream. Every one of them means that nothing read from it may be relied on.
var (
	// ErrTruncated is wrapped when a stream stops before its END; so is io.ErrUnexpectedEOF.
	ErrTruncated = fmt.Errorf("stream cut short before its END: %w", io.ErrUnexpectedEOF)
	// ErrDigest is wrapped when size, number of frames or digest in the END differ from what was read.
	ErrDigest = errors.New("stream does not match its END")
	// ErrCorrupt is wrapped when a header or a compressed frame cannot be right.
	ErrCorrupt = errors.New("damaged stream")
	// ErrKind is wrapped when a stream is of another kind or version than the reader expects.
	ErrKind = errors.New("not the expected stream")
	// ErrFrameSize is wrapped by WriteFrame for a payload that is empty or above MaxFrame.
	ErrFrameSize = fmt.Errorf("frame payload must have 1 to %d bytes", MaxFrame)
)

type frameType uint8

const (
	frameData frameType = 1
	frameEnd  frameType = 2
)

type frameHeader struct {
	kind   frameType
	codec  Codec
	length uint32 // bytes that follow the header
	raw    uint32 // bytes of payload
}

// put writes h in front of a frame. Its flags are 0 in version 1.
func (h frameHeader) put(b []byte) {
	b[0], b[1] = byte(h.kind), byte(h.codec)
	binary.LittleEndian.PutUint16(b[2:], 0)
	binary.LittleEndian.PutUint32(b[4:], h.length)
	binary.LittleEndian.PutUint32(b[8:], h.raw)
	seal(b)
}

// parseFrame accepts exactly what put writes; a length that passes is safe to read into a frame buffer.
func parseFrame(b []byte) (frameHeader, error) {
	if err := unseal(b); err != nil {
		return frameHeader{}, fmt.Errorf("frame header: %w", err)
	}
	h := frameHeader{
		kind:   frameType(b[0]),
		codec:  Codec(b[1]),
		length: binary.LittleEndian.Uint32(b[4:]),
		raw:    binary.LittleEndian.Uint32(b[8:]),
	}
	if flags := binary.LittleEndian.Uint16(b[2:]); flags != 0 || !h.plausible() {
		return frameHeader{}, fmt.Errorf("%w: frame of type %d, codec %d, flags %d, %d bytes for a payload of %d",
			ErrCorrupt, h.kind, h.codec, flags, h.length, h.raw)
	}
	return h, nil
}

func (h frameHeader) plausible() bool {
	switch {
	case h.kind == frameEnd:
		return h.codec == None && h.length == endSize && h.raw == endSize
	case h.kind != frameData || h.raw == 0 || h.raw > MaxFrame:
		return false
	case h.codec == None:
		return h.length == h.raw
	default:
		return h.codec <= Zstd && h.length > 0 && h.length < h.raw
	}
}

func putStreamHeader(b []byte, kind uint16) {
	copy(b, streamMagic)
	binary.LittleEndian.PutUint16(b[4:], streamVersion)
	binary.LittleEndian.PutUint16(b[6:], kind)
	binary.LittleEndian.PutUint32(b[8:], 0)
	seal(b)
}

func parseStreamHeader(b []byte) (kind uint16, err error) {
	if string(b[:4]) != streamMagic {
		return 0, fmt.Errorf("%w: it begins with %q, not %q", ErrKind, b[:4], streamMagic)
	}
	if err := unseal(b); err != nil {
		return 0, fmt.Errorf("stream header: %w", err)
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != streamVersion {
		return 0, fmt.Errorf("%w: format version %d, this program reads %d", ErrKind, v, streamVersion)
	}
	return binary.LittleEndian.Uint16(b[6:]), nil
}

// seal puts the CRC-32C of a header's first twelve bytes into its last four.
func seal(b []byte) {
	binary.LittleEndian.PutUint32(b[12:], headerSum(b))
}

func unseal(b []byte) error {
	if got, want := headerSum(b), binary.LittleEndian.Uint32(b[12:]); got != want {
		return fmt.Errorf("%w: checksum %08x, %08x stored", ErrCorrupt, got, want)
	}
	return nil
}

func headerSum(b []byte) uint32 {
	return crc32.Checksum(b[:12], crc32.MakeTable(crc32.Castagnoli))
}
