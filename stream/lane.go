package stream

import (
	"errors"
	"fmt"
	"slices"

	"github.com/migrate-hpc/migrate/tmpfs"
)

// A checkpoint crosses the wire, or goes into a directory, on one or more
// lanes. A lane is a sequence of streams that one goroutine writes and one
// reads; lanes are independent of each other, and the last stream of each is an
// empty one of kind KindEnd. The kind of a stream says what its payload is.
const (
	// KindImages is CRIU's image directory as Pack writes it.
	KindImages uint16 = 1
	// KindFile is a piece of one of the job's output files: the first frame is a
	// FileRange, the rest its bytes.
	KindFile uint16 = 2
	// KindPages is memory: every frame a batch of runs, see AppendRun.
	KindPages uint16 = 3
	// KindEnd says that nothing follows on this lane.
	KindEnd uint16 = 4
	// KindTmpfsPages is content of files of a private tmpfs: the first frame is a
	// TmpfsHead, the others are page frames of package tmpfs.
	KindTmpfsPages uint16 = 8
	// KindTmpfsNames is everything else about a private tmpfs, name frames of package
	// tmpfs behind a TmpfsHead.
	KindTmpfsNames uint16 = 9
	// KindDigests says what pages must hold once everything before it on the lane was
	// read: the first frame is a DigestHead, the others are made by DigestBatch.
	KindDigests uint16 = 5
	// KindBlocks is one of CRIU's images that holds pages, without those that the
	// target has: the first frame is a BlocksHead, the others see EachBlock.
	KindBlocks uint16 = 10
	// KindReady says, on the lane of images and output, that all of them came before:
	// nothing but memory is missing, and nothing but memory follows. Its stream is empty.
	KindReady uint16 = 6
)

// ErrHead is wrapped by every error about the head of a stream that no source writes.
var ErrHead = errors.New("malformed head of a stream")

// FileRange heads a stream of kind KindFile. The bytes belong at Offset of the
// output file Name; what the file holds beyond them is cut off.
type FileRange struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Mode   uint32 `json:"mode"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
}

// Check refuses a range that a stranger might have made up to reach other files.
func (r FileRange) Check() error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	if r.Offset < 0 {
		return ErrHead
	}
	return nil
}

// TmpfsHead heads the streams of a private tmpfs.
type TmpfsHead struct {
	Mount   string        `json:"mount"` // where the job has it
	Options tmpfs.Options `json:"options"`
}

// Check refuses mounts that are not carried in this way.
func (h TmpfsHead) Check() error {
	if !slices.Contains(tmpfs.Dirs(), h.Mount) {
		return fmt.Errorf("%w: %.80q is no mount whose files are carried", ErrHead, h.Mount)
	}
	return nil
}
