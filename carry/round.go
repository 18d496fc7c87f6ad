package carry

import (
	"time"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/stream"
)

// Round is what one pass over memory came to, in bytes.
type Round struct {
	Looked  int64 // what there is, all of which was read
	Changed int64 // of that what was new or had changed since the pass before
	Payload int64 // frames written, before packing
	Wire    int64 // written to the lane, packed
	Took    time.Duration
	// Reading and Writing are the time of a processor, Waiting is without one.
	Reading, Writing, Waiting time.Duration
}

// Add adds what another pass has done. The passes followed each other.
func (r *Round) Add(o Round) {
	r.Looked += o.Looked
	r.Changed += o.Changed
	r.Payload += o.Payload
	r.Wire += o.Wire
	r.Took += o.Took
	r.Reading += o.Reading
	r.Writing += o.Writing
	r.Waiting += o.Waiting
}

// Count has a pass sent on a stream, and ends that.
func Count(out *stream.Writer, send func() (looked, changed int64, err error)) (r Round, err error) {
	osthread.Timed(func(clock *osthread.Clock) {
		began := time.Now()
		if r.Looked, r.Changed, err = send(); err == nil {
			err = out.Close()
		}
		busy, took, sent := clock.Now(), time.Since(began), out.Stats()
		r.Payload, r.Wire, r.Took = sent.Payload, sent.Wire, took
		r.Writing = min(busy, sent.Packing+sent.Writing)
		r.Reading, r.Waiting = busy-r.Writing, max(0, took-busy)
	})
	return r, err
}
