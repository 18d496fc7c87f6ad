package restore

import (
	"sync"
	"sync/atomic"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/tmpfs"
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

	private private
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
	return &Receiver{Images: images, Store: store, IODir: ioDir, ready: make(chan struct{})}
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

// private are the private file systems of a job while they are built, by their mount point in the
// job.
type private struct {
	mu     sync.Mutex
	mounts map[string]*tmpfs.Target
}

// Ready is closed when images and output are complete. The job can then be restored while its
// memory still comes.
func (in *Receiver) Ready() <-chan struct{} { return in.ready }
