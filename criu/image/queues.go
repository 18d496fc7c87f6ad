package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// queuesName is the file among CRIU's images that holds the job's POSIX message
// queues, as package mqueue has them, in JSON. CRIU does not look at it.
const queuesName = "migrate-mqueue.json"

// maxQueues bounds it, in bytes: the content of all queues of a job.
const maxQueues = 256 << 20

// SetQueues keeps the job's message queues among its images.
func SetQueues(dir string, data []byte) error {
	if len(data) > maxQueues {
		return fmt.Errorf("message queues: %w: %d bytes, above %d", ErrSize, len(data), maxQueues)
	}
	//house:allow os.WriteFile: images are synced as a whole when they are sealed
	return os.WriteFile(filepath.Join(dir, queuesName), data, filePerm)
}

// Queues returns them, nil if the job has none.
func Queues(dir string) ([]byte, error) {
	data, err := ReadBounded(filepath.Join(dir, queuesName), maxQueues)
	if errors.Is(err, ErrMissing) {
		return nil, nil
	}
	return data, err
}
