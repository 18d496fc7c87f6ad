package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// exchanged is when a hello was sent and how long its answer took.
type exchanged struct {
	begin time.Time
	trip  time.Duration
}

// skew assumes that the peer read its clock in the middle of the round trip. The trip
// is measured on the monotonic clock, so a step of ours meanwhile does not matter.
func (e exchanged) skew(theirs Hello) time.Duration {
	return time.Duration(theirs.Time - e.begin.Add(e.trip/2).UnixNano())
}

// confirm is the dialler's third and last word on the control connection: its clock, so
// that the listener can measure a round trip of its own.
func confirm(w io.Writer, now time.Time) error {
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(now.UnixNano()))); err != nil {
		return fmt.Errorf("confirm hello: %w", err)
	}
	return nil
}

func readConfirm(r io.Reader) (unixNano int64, err error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("await confirmation of hello: %w", err)
	}
	return int64(binary.LittleEndian.Uint64(b[:])), nil
}
