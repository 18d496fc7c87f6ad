package image

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Magic numbers of CRIU's images (criu/include/magic.h).
const (
	magicCommon  = 0x54564319
	magicPagemap = 0x56084025
	magicTimens  = 0x43114433
)

// ErrFormat is wrapped by every error about an image that is not what CRIU
// writes.
var ErrFormat = errors.New("malformed image")

// cutMagic checks the two magic numbers of an image and returns what follows.
func cutMagic(data []byte, want uint32) ([]byte, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("%w: %d bytes hold no magic numbers", ErrFormat, len(data))
	}
	common, kind := binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint32(data[4:])
	if common != magicCommon || kind != want {
		return nil, fmt.Errorf("%w: magic numbers %#x %#x, want %#x %#x", ErrFormat, common, kind, magicCommon, want)
	}
	return data[8:], nil
}

// cutRecord splits the first record off data.
func cutRecord(data []byte) (record, rest []byte, err error) {
	if len(data) < 4 {
		return nil, nil, fmt.Errorf("%w: cut short in a length", ErrFormat)
	}
	size := int64(binary.LittleEndian.Uint32(data))
	if data = data[4:]; size > int64(len(data)) {
		return nil, nil, fmt.Errorf("%w: record of %d bytes, %d left", ErrFormat, size, len(data))
	}
	return data[:size], data[size:], nil
}

// appendRecord appends a record that holds msg.
func appendRecord(b, msg []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(msg)))
	return append(b, msg...)
}
