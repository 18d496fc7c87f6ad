package scan

import (
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/stream"
)

// Task is a process of the job.
type Task struct {
	VPID  stream.VPID
	PID   int    // in the caller's pid namespace
	Began uint64 // see [pidmap.Entry]: another process may have the PID by now
}

// Sink takes the frames of one stream. A frame holds one or more runs (image.EachRun),
// 1 MiB at most, and may be used until WriteFrame returns. It is called by one worker at a time.
type Sink interface{ WriteFrame(p []byte) error }

// Round counts one pass over the job's memory. Sizes are bytes.
type Round struct {
	Present   int64         // memory that exists
	Compared  int64         // of it what was read and compared
	Dirty     int64         // of that what was new or had changed since it was sent last
	Zero      int64         // of that what was zero and took no room on the wire
	Duplicate int64         // of that what equalled a page that the target has
	Payload   int64         // frames written, before packing
	Wire      int64         // written to the lanes, packed; not counted by this package
	Took      time.Duration // from the first process to the last frame
	// Reading and Writing is what a worker spent, on average, on reading and comparing and in
	// WriteFrame. Waiting is what it waited for a processor while the job runs; the other two do not
	// include it. So Compared/Reading is the speed of reading by all of them on an idle node.
	Reading, Writing, Waiting time.Duration
	Scanning                  time.Duration // what Reading would be with the workers of a Scan
}

// Add adds what another pass has done. The passes followed each other.
func (r *Round) Add(o Round) {
	r.count(o)
	r.Wire += o.Wire
	r.Took += o.Took
	r.Reading += o.Reading
	r.Writing += o.Writing
	r.Waiting += o.Waiting
	r.Scanning += o.Scanning
}

func (r *Round) count(o Round) {
	r.Present += o.Present
	r.Compared += o.Compared
	r.Dirty += o.Dirty
	r.Zero += o.Zero
	r.Duplicate += o.Duplicate
	r.Payload += o.Payload
}

// ReadError says which page of the job could not be read.
type ReadError struct {
	VPID stream.VPID
	PID  int    // the process here
	Addr uint64 // of the first page that is missing
	Err  error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("read memory of process %d (pid %d here) at %#x: %v", e.VPID, e.PID, e.Addr, e.Err)
}

func (e *ReadError) Unwrap() error { return e.Err }
