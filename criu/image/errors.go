package image

import "errors"

// What reading files of a directory found wrong. Every error wraps one of these and names
// the file.
var (
	ErrMissing = errors.New("file is missing")
	ErrExtra   = errors.New("file is not in the manifest")
	ErrSize    = errors.New("size is wrong")
)
