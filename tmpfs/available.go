package tmpfs

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Available is the memory that can be had without taking it from anybody, in bytes:
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
