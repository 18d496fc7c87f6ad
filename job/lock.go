package job

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// lock holds dir for this caller alone, against other processes and other goroutines: flock(2)
// belongs to the open file, and each call opens its own. It is gone with the process.
func lock(dir string) (unlock func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := linux.Flock(d, unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d.Close, nil
}
