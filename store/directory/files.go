package directory

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/failpoint"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/store"
)

// filePerm is the mode of the files of a checkpoint.
const filePerm = 0o600

// Files are those of a directory that is being written, to be sealed. The directory is its user's,
// who may put anything under any name in it at any time. So all files are made at the
// beginning and named by their descriptors from then on, and what is signed are digests
// of what went through those, not of what is found under the names at the end.
type Files struct {
	dir   *os.File
	files []*HashedFile
	seal  map[string]*os.File // the manifest and its signature
}

// NewFiles makes the files of a directory: those with the names, and the two of the
// seal. None of them may be there. It asks for nothing but the rights of its thread.
func NewFiles(dir *os.File, names []string) (*Files, error) {
	d := &Files{dir: dir, seal: map[string]*os.File{}}
	for _, name := range names {
		f, err := createBeneath(dir, name)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.files = append(d.files, &HashedFile{f: f, sum: store.NewDigests()})
	}
	for _, name := range store.SealNames() {
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
		return unix.Openat(int(dir.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, filePerm)
	})
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// All are those of the names, in their order.
func (d *Files) All() []*HashedFile { return d.files }

// Seal lists every file with its size and digests in manifest.json and puts the
// signature of that into manifest.sig. Nobody may write to a file any more. When Seal
// returns without an error all of the directory is on the disk, and its names led to what
// was written when they were looked at last. With the names it may only help: what the
// signature holds for is what was written, whatever has the names.
func (d *Files) Seal(m store.Manifest, sign store.Signer) error {
	if err := d.put(m, sign); err != nil {
		return fmt.Errorf("seal %s: %w", d.dir.Name(), err)
	}
	return nil
}

func (d *Files) put(m store.Manifest, sign store.Signer) error {
	m.Files = nil
	for _, f := range d.files {
		if err := syncFile(f.f); err != nil {
			return err
		}
		m.Files = append(m.Files, f.sum.Entry(f.f.Name()))
	}
	manifest, signature, err := store.Seal(m, sign)
	if err != nil {
		return err
	}
	err = errors.Join(writeSynced(d.seal[store.SignatureName], signature), writeSynced(d.seal[store.ManifestName], manifest))
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
func (d *Files) undisturbed() error {
	sizes := map[string]int64{}
	open := map[string]*os.File{}
	for _, f := range d.files {
		open[f.f.Name()], sizes[f.f.Name()] = f.f, f.sum.Size()
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
func (d *Files) Close() error {
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

// HashedFile is a file that is hashed while it is written. One goroutine writes it.
type HashedFile struct {
	f   *os.File
	sum *store.Digests
}

// Write writes, and hashes what it has written.
func (f *HashedFile) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	f.sum.Add(p[:n])
	return n, err
}
