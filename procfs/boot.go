package procfs

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// BootID returns the id of the running boot of the node (random(4)).
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if id == "" {
		return "", errors.New("read boot id: it is empty")
	}
	return id, nil
}
