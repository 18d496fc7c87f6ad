package restore

import (
	"errors"
	"maps"
	"os"
	"sync"
	"sync/atomic"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
)

// Receiver receives a checkpoint.
type Receiver struct {
	Images string           // existing empty directory on a tmpfs
	Store  *pagestore.Store // for the lazy memory
	IODir  string           // existing empty directory for output files
	// OutputLimit is the most bytes that an output file may have, 0 for no limit.
	OutputLimit int64
	// Stop is called when a lane has failed. It must make the reads of the others fail, and the writes
	// at their other ends. May be nil.
	Stop func()
	// Digests are the source's digests of pages, if it sends some. A page that arrives later can be
	// compared with them.
	Digests pagestore.Digests
	// Received counts bytes of memory and images as they arrive.
	Received atomic.Int64

	carried []carry.Receiver
	blocks  blocks

	imagesMu  sync.Mutex    // held while anything but memory is read
	ready     chan struct{} // closed when all is here but memory
	readyOnce sync.Once
	notReady  error // why it is of no use, though all is here

	handOver sync.RWMutex    // held for reading while a frame is kept
	newSink  func() PageSink // makes the sinks that replace Store, nil before HandOver
}

// PageSink receives the pages of one lane, in order. Close returns nil when they are stored. Abort
// gives them up.
type PageSink interface {
	Frame(batch []byte) error
	Close() error
	Abort()
}

// NewReceiver returns a Receiver.
func NewReceiver(images string, store *pagestore.Store, ioDir string) *Receiver {
	return &Receiver{Images: images, Store: store, IODir: ioDir, carried: table.Carried.Receivers(), ready: make(chan struct{})}
}

// blocks are images with parts that are still to be copied from the page store.
type blocks struct {
	mu     sync.Mutex
	images []blockImage
	refs   int
}

type blockImage struct {
	path string
	refs []image.Ref
}

// Ready is closed when images and output are complete. The job can then be restored while its
// memory still comes.
func (in *Receiver) Ready() <-chan struct{} { return in.ready }

// Mounts are the detached mounts that were built for the job, by their mount point in it.
func (in *Receiver) Mounts() map[string]*os.File {
	mounts := map[string]*os.File{}
	for _, r := range in.carried {
		maps.Copy(mounts, r.Mounts())
	}
	return mounts
}

// CloseMounts closes them. Those that are attached nowhere vanish.
func (in *Receiver) CloseMounts() error {
	var errs []error
	for _, r := range in.carried {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}
