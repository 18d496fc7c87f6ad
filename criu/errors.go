package criu

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrVanished says that CRIU ended without the final reply.
var ErrVanished = errors.New("CRIU ended without a reply")

// Error is a failed request, with what CRIU's log says about it.
type Error struct {
	Op string // "dump", "restore", …
	Failure
	Err error
}

// Error tells the operation, the cause, and where its kind is not known the first line of the log that
// speaks of an error.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "criu %s: %v", e.Op, e.Err)
	switch {
	case e.Cause != "" && !e.known && len(e.Lines) > 0:
		fmt.Fprintf(&b, ": %s: %s", e.Cause, e.Lines[0])
	case e.Cause != "":
		fmt.Fprintf(&b, ": %s", e.Cause)
	case len(e.Lines) > 0:
		fmt.Fprintf(&b, ": %s", e.Lines[0])
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// StuckError says that CRIU did not end within the grace that follows a
// cancelled context. A stuck dump is left alone, because killing it would
// leave its code inside the job's tasks; it may still end by itself.
type StuckError struct {
	PID   int
	Grace time.Duration
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("CRIU (pid %d) still holds the job %v after it was told to give up; look at /proc/%d/stack", e.PID, e.Grace, e.PID)
}
