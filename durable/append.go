package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/failpoint"
)

// AppendLine adds line and a newline at the end of the file at path and returns when they are on
// the disk. The file is made with permissions perm if it is missing. A line must hold no newline.
//
// After an error the line may be there, whole or in part, or not. A caller that must know
// writes the file anew with WriteFile.
func AppendLine(path string, line []byte, perm fs.FileMode) error {
	return appendLine(kernel(), path, line, perm)
}

func appendLine(sys system, path string, line []byte, perm fs.FileMode) error {
	if bytes.IndexByte(line, '\n') >= 0 {
		return fmt.Errorf("append to %s: the line holds a newline", path)
	}
	f, fresh, err := openAppend(sys, path, perm)
	if err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	if err = failpoint.Fail("write", path); err == nil {
		_, err = f.Write(append(bytes.Clone(line), '\n'))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = failpoint.Fail("sync", path)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	if !fresh {
		return nil
	}
	if err := sys.syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	return nil
}

// openAppend tells whether it made the file, because only then the directory must be synced too.
func openAppend(sys system, path string, perm fs.FileMode) (file, bool, error) {
	f, err := sys.open(path, os.O_WRONLY|os.O_APPEND, perm)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, false, err
	}
	f, err = sys.open(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, perm)
	return f, true, err
}
