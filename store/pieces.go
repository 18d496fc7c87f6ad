package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/migrate-hpc/migrate/criu/image"
)

// PieceSize is how much of a file has a digest of its own, in bytes: it is checked before
// it is used, and waits in memory until then.
const PieceSize = 4 << 20

// Digests are those of a file, piece by piece, while it is written.
type Digests struct {
	size   int64
	sum    hash.Hash // of the piece that is not full
	pieces []byte    // digests of those that are
}

func NewDigests() *Digests { return &Digests{sum: sha256.New()} }

// Add takes in what was written.
func (d *Digests) Add(p []byte) {
	for rest := p; len(rest) > 0; {
		part := rest[:min(int64(len(rest)), PieceSize-d.size%PieceSize)]
		d.sum.Write(part)
		d.size += int64(len(part))
		if rest = rest[len(part):]; d.size%PieceSize == 0 {
			d.pieces = d.sum.Sum(d.pieces)
			d.sum.Reset()
		}
	}
}

// Size is how much was added, in bytes.
func (d *Digests) Size() int64 { return d.size }

// Entry is that of the manifest.
func (d *Digests) Entry(name string) File {
	pieces := slices.Clone(d.pieces)
	if d.size%PieceSize != 0 {
		pieces = d.sum.Sum(pieces)
	}
	return File{Name: name, Size: d.size, Pieces: pieces}
}

// hasDigests tells whether the entry has the digests of its version and no others.
func (f File) hasDigests(version int) bool {
	if version == 1 {
		_, err := hex.DecodeString(f.SHA256)
		return err == nil && len(f.SHA256) == 2*sha256.Size && f.Pieces == nil
	}
	pieces := f.Size / PieceSize
	if f.Size%PieceSize != 0 {
		pieces++
	}
	return f.SHA256 == "" && int64(len(f.Pieces))/sha256.Size == pieces && len(f.Pieces)%sha256.Size == 0
}

// DigestsOf are the digests of the pieces of a file: those that are listed, or, in a manifest
// of version 1, those of what in has, which is read once for that.
func (m Manifest) DigestsOf(f File, in io.ReaderAt) ([]byte, error) {
	if m.Version == 1 {
		return digestWhole(in, f)
	}
	return f.Pieces, nil
}

// digestWhole reads a file of which the manifest, of version 1, has one digest, and
// returns those of the pieces of what it has read.
func digestWhole(f io.ReaderAt, want File) ([]byte, error) {
	whole, piece := sha256.New(), sha256.New()
	in := io.NewSectionReader(f, 0, want.Size)
	var pieces []byte
	for at := int64(0); at < want.Size; at += PieceSize {
		piece.Reset()
		n, err := io.CopyN(io.MultiWriter(whole, piece), in, min(PieceSize, want.Size-at))
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: it was cut while it was read, at %d", image.ErrSize, at+n)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", want.Name, err)
		}
		pieces = piece.Sum(pieces)
	}
	if hex.EncodeToString(whole.Sum(nil)) != want.SHA256 {
		return nil, fmt.Errorf("%s: %w", want.Name, ErrDigest)
	}
	return pieces, nil
}

// NewReader reads a file from its beginning. It fails with ErrDigest or ErrSize in place of
// handing out a byte that the digests do not hold for. in may change meanwhile.
func NewReader(f File, digests []byte, in io.ReaderAt) io.Reader {
	return &checkedReader{in: in, name: f.Name, size: f.Size, pieces: digests}
}

// checkedReader takes in a piece and checks it, and only then lets go of it: the file may
// be written to meanwhile.
type checkedReader struct {
	in     io.ReaderAt
	name   string
	size   int64
	pieces []byte
	at     int64
	buf    []byte
	left   []byte // of the piece
}

func (r *checkedReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (r *checkedReader) next() error {
	if r.at == r.size {
		return io.EOF
	}
	if r.buf == nil {
		r.buf = make([]byte, min(PieceSize, r.size))
	}
	piece := r.buf[:min(PieceSize, r.size-r.at)]
	n, err := r.in.ReadAt(piece, r.at)
	if n < len(piece) && errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w: it was cut while it was read", r.name, image.ErrSize)
	}
	if n < len(piece) {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	sum := sha256.Sum256(piece)
	if i := r.at / PieceSize * sha256.Size; !bytes.Equal(sum[:], r.pieces[i:i+sha256.Size]) {
		return fmt.Errorf("%s: %w", r.name, ErrDigest)
	}
	r.at += int64(len(piece))
	r.left = piece
	return nil
}
