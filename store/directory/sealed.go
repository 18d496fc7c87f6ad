package directory

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/store"
)

// Sealed is a sealed directory whose files are open. What names lead to any more does not
// matter, nor who writes to the files: no byte is handed out that was not checked.
type Sealed struct {
	Manifest store.Manifest
	files    []*os.File // as they are listed
	pieces   [][]byte   // digests of each
}

// Open opens a sealed directory: the signature first, then the version, then that the
// files are exactly those that are listed, with their sizes. The directory is somebody
// else's: as calls what it is given with the rights that this one has to files, and opens
// each once. Files that are root's alone, as older versions have left them, are opened
// with the rights of Open's thread. Errors wrap ErrSignature, ErrVersion, ErrMissing,
// ErrExtra, ErrSize, ErrDigest or ErrFormat.
func Open(dir *os.File, as func(func() error) error, verify store.Verifier) (*Sealed, error) {
	o := opener{dir, as}
	s := &Sealed{}
	err := s.open(o, verify)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open sealed images %s: %w", dir.Name(), err), s.Close())
	}
	return s, nil
}

func (s *Sealed) open(o opener, verify store.Verifier) (err error) {
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
		digests, err := s.Manifest.DigestsOf(want, s.files[i])
		if err != nil {
			return err
		}
		s.pieces = append(s.pieces, digests)
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
	return store.NewReader(s.Manifest.Files[i], s.pieces[i], s.files[i])
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

func (o opener) manifest(verify store.Verifier) (store.Manifest, error) {
	manifest, err := o.read(store.ManifestName, store.MaxManifest)
	if err != nil {
		return store.Manifest{}, err
	}
	signature, err := o.read(store.SignatureName, store.MaxSignature)
	if err != nil {
		return store.Manifest{}, err
	}
	return store.Unseal(manifest, signature, verify)
}

// checkListing compares the names in the directory with the manifest.
func (o opener) checkListing(files []store.File) error {
	names, err := namesIn(o.dir)
	if err != nil {
		return err
	}
	listed := make(map[string]bool, len(files))
	for _, f := range files {
		listed[f.Name] = true
	}
	for _, name := range names {
		if store.IsSeal(name) || isClaim(name) {
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
