package pki

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Names of the files that Init and Issue write and Load reads.
const (
	CACertFile   = "ca.crt"
	CAKeyFile    = "ca.key"
	NodeCertFile = "node.crt"
	NodeKeyFile  = "node.key"
)

// publish makes data appear at path whole or not at all, also across a power cut.
// Without replace an existing file is left alone and the error is fs.ErrExist.
func publish(path string, data []byte, perm os.FileMode, replace bool) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if gone := os.Remove(temp.Name()); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	if err := fill(temp, data, perm); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	put := os.Link
	if replace {
		//house:allow os.Rename: both files and directory are synced here
		put = os.Rename
	}
	if err := put(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func fill(f *os.File, data []byte, perm os.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
