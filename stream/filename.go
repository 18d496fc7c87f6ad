package stream

import (
	"errors"
	"fmt"
	"strings"
)

// MaxFiles bounds the files of a checkpoint. CRIU writes a handful per process, so this
// allows for jobs of some ten thousand processes. Writers and readers have it, so that a
// job that cannot be restored goes on.
const MaxFiles = 1 << 18

// MaxName is the longest name of a file, in bytes.
const MaxName = 255

// ErrName is wrapped by every error about the name of a file.
var ErrName = errors.New("bad name of a file")

// CheckName allows a plain file name only.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > MaxName || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}
