package store

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/failpoint"
	"github.com/migrate-hpc/migrate/linux"
)

// Signer signs data as this node and returns its certificate (PEM) with it.
type Signer func(data []byte) (sig, cert []byte, err error)

// draftPerm is the mode of the files of a draft.
const draftPerm = 0o600

// Draft is a directory that is being written, to be sealed. The directory is its user's,
// who may put anything under any name in it at any time. So all files are made at the
// beginning and named by their descriptors from then on, and what is signed are digests
// of what went through those, not of what is found under the names at the end.
type Draft struct {
	dir   *os.File
	files []*DraftFile
	seal  map[string]*os.File // the manifest and its signature
}

// NewDraft makes the files of a directory: those with the names, and the two of the
// seal. None of them may be there. It asks for nothing but the rights of its thread.
func NewDraft(dir *os.File, names []string) (*Draft, error) {
	d := &Draft{dir: dir, seal: map[string]*os.File{}}
	for _, name := range names {
		f, err := createBeneath(dir, name)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.files = append(d.files, &DraftFile{f: f, sum: sha256.New()})
	}
	for _, name := range []string{manifestName, signatureName} {
		f, err := createBeneath(dir, name)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.seal[name] = f
	}
	return d, nil
}

func createBeneath(dir *os.File, name string) (*os.File, error) {
	fd, err := linux.RetryValue(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, draftPerm)
	})
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Files are those of the names, in their order.
func (d *Draft) Files() []*DraftFile { return d.files }

// Seal lists every file with its size and digests in manifest.json and puts the
// signature of that into manifest.sig. Nobody may write to a file any more. When Seal
// returns without an error all of the directory is on the disk, and its names led to what
// was written when they were looked at last. With the names it may only help: what the
// signature holds for is what was written, whatever has the names.
func (d *Draft) Seal(m Manifest, sign Signer) error {
	if err := d.put(m, sign); err != nil {
		return fmt.Errorf("seal %s: %w", d.dir.Name(), err)
	}
	return nil
}

func (d *Draft) put(m Manifest, sign Signer) error {
	m.Version, m.Files = ManifestVersion, nil
	for _, f := range d.files {
		if err := syncFile(f.f); err != nil {
			return err
		}
		m.Files = append(m.Files, f.entry())
	}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if err := checkFiles(m.Version, m.Files); err != nil {
		return err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	sig, cert, err := sign(data)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	sealed, err := json.Marshal(seal{Signature: sig, Certificate: cert})
	if err != nil {
		return err
	}
	err = errors.Join(writeSynced(d.seal[signatureName], sealed), writeSynced(d.seal[manifestName], data))
	if err == nil {
		err = d.undisturbed()
	}
	if err == nil {
		err = d.dir.Sync()
	}
	return err
}

func writeSynced(f *os.File, data []byte) error {
	if err := failpoint.Fail("write", f.Name()); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return syncFile(f)
}

func syncFile(f *os.File) error {
	if err := failpoint.Fail("sync", f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

// undisturbed tells early, while the job can still go on, that the directory could not be
// restored: somebody has put something else into it, or cut a file.
func (d *Draft) undisturbed() error {
	sizes := map[string]int64{}
	open := map[string]*os.File{}
	for _, f := range d.files {
		open[f.f.Name()], sizes[f.f.Name()] = f.f, f.size
	}
	for name, f := range d.seal {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		open[name], sizes[name] = f, info.Size()
	}
	names, err := namesIn(d.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if open[name] == nil {
			return fmt.Errorf("%s: %w: somebody put it there meanwhile", name, image.ErrExtra)
		}
	}
	for name, f := range open {
		var mine unix.Stat_t
		there, err := statBeneath(d.dir, name)
		if err = errors.Join(err, unix.Fstat(int(f.Fd()), &mine)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if there.Ino != mine.Ino || there.Dev != mine.Dev || mine.Size != sizes[name] {
			return fmt.Errorf("%s: %w: somebody exchanged or changed it meanwhile", name, image.ErrExtra)
		}
	}
	return nil
}

// Close closes all files.
func (d *Draft) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.f.Close())
	}
	for _, f := range d.seal {
		errs = append(errs, f.Close())
	}
	d.files, d.seal = nil, nil
	return errors.Join(errs...)
}

// DraftFile is a file of a draft. One goroutine writes it.
type DraftFile struct {
	f      *os.File
	size   int64
	sum    hash.Hash // of the piece that is not full
	pieces []byte    // digests of those that are
}

// Write writes, and hashes what it has written.
func (f *DraftFile) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	for rest := p[:n]; len(rest) > 0; {
		part := rest[:min(int64(len(rest)), PieceSize-f.size%PieceSize)]
		f.sum.Write(part)
		f.size += int64(len(part))
		if rest = rest[len(part):]; f.size%PieceSize == 0 {
			f.pieces = f.sum.Sum(f.pieces)
			f.sum.Reset()
		}
	}
	return n, err
}

func (f *DraftFile) entry() File {
	pieces := slices.Clone(f.pieces)
	if f.size%PieceSize != 0 {
		pieces = f.sum.Sum(pieces)
	}
	return File{Name: f.f.Name(), Size: f.size, Pieces: pieces}
}
