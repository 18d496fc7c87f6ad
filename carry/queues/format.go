package queues

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/mqueue"
)

// fileName is the file among CRIU's images that holds the job's POSIX message queues, as
// package mqueue has them, in JSON. CRIU does not look at it.
const fileName = "migrate-mqueue.json"

// maxFile bounds it, in bytes: the content of all queues of a job.
const maxFile = 256 << 20

// write keeps the job's message queues among its images.
func write(images string, queues []mqueue.Queue) error {
	data, err := json.Marshal(queues)
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("message queues: %w: %d bytes, above %d", image.ErrSize, len(data), maxFile)
	}
	//house:allow os.WriteFile: images are synced as a whole when they are sealed
	return os.WriteFile(filepath.Join(images, fileName), data, 0o600)
}

// read returns them, none if the job has none.
func read(images string) ([]mqueue.Queue, error) {
	data, err := image.ReadBounded(filepath.Join(images, fileName), maxFile)
	if errors.Is(err, image.ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var queues []mqueue.Queue
	if err := json.Unmarshal(data, &queues); err != nil {
		return nil, fmt.Errorf("message queues: %w", err)
	}
	return queues, nil
}
