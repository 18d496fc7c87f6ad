package image

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// magicGhost is that of the image of a deleted file (criu/include/magic.h).
const magicGhost = 0x52583605

// maxRecord bounds a record of such an image, in bytes.
const maxRecord = 64 << 10

// memoryIn says where an image holds pages. An image of pages holds nothing else; that
// of a deleted file has the file's data in pieces, each behind a record that says how
// long it is (CRIU, images/ghost-file.proto).
func memoryIn(f *os.File) ([]part, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(filepath.Base(f.Name()), "pages-") {
		return []part{{0, info.Size(), true}}, nil
	}
	g := &ghostReader{f: f, size: info.Size()}
	if err := g.magic(); err != nil {
		return nil, err
	}
	head, err := g.record()
	if err != nil {
		return nil, err
	}
	g.cut(false)
	for chunked := field(head, 9) != 0; g.at < g.size; {
		size := g.size - g.at
		if chunked {
			chunk, err := g.record()
			if err != nil {
				return nil, err
			}
			g.cut(false)
			size = int64(field(chunk, 1))
		}
		if size <= 0 || size > g.size-g.at {
			return nil, fmt.Errorf("%w: a piece of %d bytes, %d are left", ErrFormat, size, g.size-g.at)
		}
		g.at += size
		g.cut(true)
	}
	return g.parts, nil
}

type ghostReader struct {
	f        io.ReaderAt
	at, size int64
	from     int64 // where the part that is being read began
	parts    []part
}

func (g *ghostReader) cut(pages bool) {
	g.parts = append(g.parts, part{g.from, g.at - g.from, pages})
	g.from = g.at
}

func (g *ghostReader) read(n int64) ([]byte, error) {
	if n > g.size-g.at {
		return nil, fmt.Errorf("%w: cut short", ErrFormat)
	}
	b := make([]byte, n)
	_, err := g.f.ReadAt(b, g.at)
	g.at += n
	return b, err
}

func (g *ghostReader) magic() error {
	b, err := g.read(8)
	if err == nil {
		_, err = cutMagic(b, magicGhost)
	}
	return err
}

func (g *ghostReader) record() ([]byte, error) {
	b, err := g.read(4)
	if err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n > maxRecord {
		return nil, fmt.Errorf("%w: record of %d bytes", ErrFormat, n)
	}
	return g.read(n)
}

// field is a number in a message, 0 if it is not there.
func field(msg []byte, want protowire.Number) uint64 {
	for len(msg) > 0 {
		number, kind, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return 0
		}
		msg = msg[n:]
		if number == want && kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(msg)
			return v
		}
		if n = protowire.ConsumeFieldValue(number, kind, msg); n < 0 {
			return 0
		}
		msg = msg[n:]
	}
	return 0
}
