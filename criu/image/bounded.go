package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OpenRegular opens a regular file of ours; it follows no symbolic link and waits for
// no pipe.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: no regular file", path, ErrExtra)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadBounded reads a regular file of ours, of at most limit bytes.
func ReadBounded(path string, limit int64) ([]byte, error) {
	f, err := OpenRegular(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadUpTo(f, filepath.Base(path), limit)
}

// ReadUpTo reads a file of at most limit bytes.
func ReadUpTo(f *os.File, name string, limit int64) ([]byte, error) {
	tooLarge := fmt.Errorf("%s: %w: more than %d bytes", name, ErrSize, limit)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, tooLarge
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1)) // it may grow meanwhile
	if err == nil && int64(len(data)) > limit {
		err = tooLarge
	}
	return data, err
}
