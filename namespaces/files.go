package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// File is a file of the job's own, in place of the one at Path in its root.
type File struct {
	Path string `json:"path"`
	Text []byte `json:"text"`
}

// place writes the file into the job's own file system, hidden by a dot, and binds it at its path. So a
// move carries it like all that is there. A root without such a path stays without.
func (o jobFS) place(f File) error {
	at, err := o.job.find(f.Path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	name := "." + path.Base(f.Path)
	own, err := linux.OpenFile(int(o.top.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, linux.Beneath)
	if err != nil {
		return fmt.Errorf("make %s/%s: %w", o.at, name, err)
	}
	_, err = own.Write(f.Text)
	if err := errors.Join(err, own.Chmod(0o644), own.Close()); err != nil {
		return fmt.Errorf("write %s/%s: %w", o.at, name, err)
	}
	fd, err := unix.OpenTree(int(o.top.Fd()), name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("bind %s/%s: %w", o.at, name, err)
	}
	mount := os.NewFile(uintptr(fd), name)
	defer mount.Close()
	return attachAt(mount, at, f.Path)
}
