package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
)

// Verifier checks a signature against the cluster's CA and returns the name of
// the node that made it.
type Verifier func(data, sig, cert []byte) (node string, err error)

// Sealed is a sealed directory whose files are open. What names lead to any more does not
// matter, nor who writes to the files: no byte is handed out that was not checked.
type Sealed struct {
	Manifest Manifest
	files    []*os.File // as they are listed
	pieces   [][]byte   // digests of each
}

// Open opens a sealed directory: the signature first, then the version, then that the
// files are exactly those that are listed, with their sizes. The directory is somebody
// else's: as calls what it is given with the rights that this one has to files, and opens
// each once. Files that are root's alone, as older versions have left them, are opened
// with the rights of Open's thread. Errors wrap ErrSignature, ErrVersion, ErrMissing,
// ErrExtra, ErrSize, ErrDigest or ErrFormat.
func Open(dir *os.File, as func(func() error) error, verify Verifier) (*Sealed, error) {
	o := opener{dir, as}
	s := &Sealed{}
	err := s.open(o, verify)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open sealed images %s: %w", dir.Name(), err), s.Close())
	}
	return s, nil
}

func (s *Sealed) open(o opener, verify Verifier) (err error) {
	if s.Manifest, err = o.manifest(verify); err != nil {
		return err
	}
	if err := o.checkListing(s.Manifest.Files); err != nil {
		return err
	}
	for _, want := range s.Manifest.Files {
		f, st, err := o.open(want.Name)
		if err != nil {
			return err
		}
		s.files = append(s.files, f)
		if st.Size != want.Size {
			return fmt.Errorf("%s: %w: it has %d bytes, the manifest says %d", want.Name, image.ErrSize, st.Size, want.Size)
		}
	}
	for i, want := range s.Manifest.Files {
		pieces := want.Pieces
		if s.Manifest.Version == 1 {
			if pieces, err = digestWhole(s.files[i], want); err != nil {
				return err
			}
		}
		s.pieces = append(s.pieces, pieces)
	}
	return nil
}

// Close closes the files. Nobody may be reading any more.
func (s *Sealed) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	s.files = nil
	return errors.Join(errs...)
}

// Reader reads the file of Manifest.Files[i] from its beginning. It fails with ErrDigest
// or ErrSize in place of handing out a byte that is not what the signature holds for.
func (s *Sealed) Reader(i int) io.Reader {
	return &checkedReader{f: s.files[i], size: s.Manifest.Files[i].Size, pieces: s.pieces[i]}
}

// checkedReader takes in a piece and checks it, and only then lets go of it: the file may
// be written to meanwhile.
type checkedReader struct {
	f      *os.File
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
	n, err := r.f.ReadAt(piece, r.at)
	if n < len(piece) && errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w: it was cut while it was read", r.f.Name(), image.ErrSize)
	}
	if n < len(piece) {
		return fmt.Errorf("%s: %w", r.f.Name(), err)
	}
	sum := sha256.Sum256(piece)
	if i := r.at / PieceSize * sha256.Size; !bytes.Equal(sum[:], r.pieces[i:i+sha256.Size]) {
		return fmt.Errorf("%s: %w", r.f.Name(), ErrDigest)
	}
	r.at += int64(len(piece))
	r.left = piece
	return nil
}

// digestWhole reads a file of which the manifest, of version 1, has one digest, and
// returns those of the pieces of what it has read.
func digestWhole(f *os.File, want File) ([]byte, error) {
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

// opener opens files of a directory that is somebody else's.
type opener struct {
	dir *os.File
	as  func(func() error) error
}

func (o opener) open(name string) (f *os.File, st unix.Stat_t, err error) {
	err = o.as(func() error {
		f, st, err = openBeneath(o.dir, name)
		return err
	})
	if errors.Is(err, unix.EACCES) {
		f, st, err = openRoots(o.dir, name, err)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%s: %w", name, image.ErrMissing)
	}
	return f, st, err
}

// openRoots opens a file that nobody but root may open and that no other name leads to.
// Without those it is somebody else's, and denied rightly.
func openRoots(dir *os.File, name string, denied error) (*os.File, unix.Stat_t, error) {
	st, err := statBeneath(dir, name)
	if err != nil || !rootsAlone(st) {
		return nil, st, denied
	}
	f, st, err := openBeneath(dir, name)
	if err == nil && !rootsAlone(st) {
		err = errors.Join(denied, f.Close())
	}
	return f, st, err
}

func rootsAlone(st unix.Stat_t) bool { return st.Uid == 0 && st.Nlink == 1 && st.Mode&0o077 == 0 }

func (o opener) read(name string, limit int64) ([]byte, error) {
	f, _, err := o.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return image.ReadUpTo(f, name, limit)
}

func (o opener) manifest(verify Verifier) (Manifest, error) {
	data, err := o.read(manifestName, maxManifest)
	if err != nil {
		return Manifest{}, err
	}
	sealed, err := o.read(signatureName, maxSignature)
	if err != nil {
		return Manifest{}, err
	}
	var s seal
	if decodeStrict(sealed, &s) != nil { // whose file it is says nobody yet, and neither what it holds
		return Manifest{}, fmt.Errorf("%w: %s does not hold one", ErrSignature, signatureName)
	}
	node, err := verify(data, s.Signature, s.Certificate)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	m, err := parseManifest(data)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestName, err)
	}
	if m.Node != node {
		return Manifest{}, fmt.Errorf("%w: made by node %q, signed by node %q", ErrSignature, m.Node, node)
	}
	return m, nil
}

// checkListing compares the names in the directory with the manifest.
func (o opener) checkListing(files []File) error {
	names, err := namesIn(o.dir)
	if err != nil {
		return err
	}
	listed := make(map[string]bool, len(files))
	for _, f := range files {
		listed[f.Name] = true
	}
	for _, name := range names {
		if isSeal(name) || isClaim(name) {
			continue
		}
		if !listed[name] {
			return fmt.Errorf("%s: %w", name, image.ErrExtra)
		}
		delete(listed, name)
	}
	for _, f := range files {
		if listed[f.Name] {
			return fmt.Errorf("%s: %w", f.Name, image.ErrMissing)
		}
	}
	return nil
}
