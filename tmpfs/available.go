package tmpfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// Available is the memory that can be had without taking it from a process, in bytes:
// MemAvailable of proc_meminfo(5). It is what files in memory may grow by.
func Available() (int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, errors.New("/proc/meminfo tells no MemAvailable")
}

// Room is how much the file system that a directory is on has left for files, in bytes.
func Room(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := linux.Retry(func() error { return unix.Statfs(dir, &st) }); err != nil {
		return 0, fmt.Errorf("room in %s: %w", dir, err)
	}
	if st.Blocks == 0 { // one in memory that was mounted without a bound
		return Available()
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
