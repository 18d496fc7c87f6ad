package image

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	skpacket "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-packet"
	"google.golang.org/protobuf/proto"
)

const (
	queuedName  = "sk-queues.img"
	magicQueued = 0x56264026 // SK_QUEUES_MAGIC (criu/include/magic.h)
	maxQueued   = 1 << 30    // bytes: what waits in all Unix sockets of a job
)

// Passing counts the descriptors of files with a name that are on their way in a Unix
// socket (SCM_RIGHTS): the job has sent them and not received them yet.
func Passing(dir string) (int, error) {
	data, err := ReadBounded(filepath.Join(dir, queuedName), maxQueued)
	if errors.Is(err, ErrMissing) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	sent, err := sentFiles(data)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", queuedName, err)
	}
	if len(sent) == 0 {
		return 0, nil
	}
	n := len(sent)
	err = eachFile(dir, func(record []byte) error {
		var e fdinfo.FileEntry
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(record, &e); err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if sent[e.GetId()] && !named(e.GetType()) {
			n--
		}
		return nil
	})
	return n, err
}

func named(t fdinfo.FdTypes) bool {
	switch t {
	case fdinfo.FdTypes_UND, fdinfo.FdTypes_REG, fdinfo.FdTypes_FIFO, fdinfo.FdTypes_EXT:
		return true
	}
	return false
}

// sentFiles reads the ids of the files that messages carry. The bytes of a message follow
// its record.
func sentFiles(data []byte) (map[uint32]bool, error) {
	sent := map[uint32]bool{}
	rest, err := cutMagic(data, magicQueued)
	for err == nil && len(rest) > 0 {
		var record []byte
		if record, rest, err = cutRecord(rest); err != nil {
			break
		}
		var e skpacket.SkPacketEntry
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(record, &e); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if int64(e.GetLength()) > int64(len(rest)) {
			return nil, fmt.Errorf("%w: message of %d bytes, %d left", ErrFormat, e.GetLength(), len(rest))
		}
		rest = rest[e.GetLength():]
		for _, scm := range e.GetScm() {
			for _, id := range scm.GetRights() {
				sent[id] = true
			}
		}
	}
	return sent, err
}
