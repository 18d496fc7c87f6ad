package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/failpoint"
)

// file is what a durable write needs of an open file.
type file interface {
	Write(p []byte) (int, error)
	Chmod(mode fs.FileMode) error
	Sync() error
	Close() error
	Name() string
}

// system is the part of the operating system that can fail under a write. Tests wrap the real one.
type system struct {
	create  func(dir, pattern string) (file, error)
	open    func(path string, flag int, perm fs.FileMode) (file, error)
	rename  func(from, to string) error
	syncDir func(dir string) error
}

func kernel() system {
	return system{
		create:  func(dir, pattern string) (file, error) { return os.CreateTemp(dir, pattern) },
		open:    func(path string, flag int, perm fs.FileMode) (file, error) { return os.OpenFile(path, flag, perm) },
		rename:  os.Rename,
		syncDir: SyncDir,
	}
}

// TempPrefix begins the names of the temporary files that a crash may leave beside the real ones.
const TempPrefix = ".tmp-"

// WriteFile puts data at path, whole or not at all. It returns when data, name and directory are
// on the disk. The file gets exactly the permissions perm; the umask does not apply. The directory
// must exist. On an error before the rename the old file is untouched and no temporary file is left.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return writeFile(kernel(), path, data, perm)
}

func writeFile(sys system, path string, data []byte, perm fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := sys.create(dir, TempPrefix+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := fill(f, path, data, perm); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	if err := sys.rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	if err := sys.syncDir(dir); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// fill writes, syncs and closes f, which is to become path; f is closed whatever happens.
func fill(f file, path string, data []byte, perm fs.FileMode) error {
	err := failpoint.Fail("write", path)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = failpoint.Fail("sync", path)
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes the names in dir durable: creations, renames and removals.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
