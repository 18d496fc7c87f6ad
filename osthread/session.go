package osthread

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Session sets how the calling process's session comes behind others, as a nice level.
// Where the kernel shares processors out by sessions (sched(7), autogroup) the levels of
// threads say nothing to those of other sessions. Elsewhere it changes nothing.
func Session(nice int) error {
	//house:allow os.WriteFile: a file of the kernel
	err := os.WriteFile("/proc/self/autogroup", fmt.Append(nil, nice), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EAGAIN) {
		return nil // not in this kernel; or changed just now by somebody without privileges
	}
	return err
}
