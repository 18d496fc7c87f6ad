package api

import (
	"errors"
	"net/http"
)

// Error is how an agent tells a failure: what happened and why, where the job
// is now, and what to do. Code decides the exit status of the command.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Where   string `json:"where,omitempty"` // where the job runs now, if there is one
	Hint    string `json:"hint,omitempty"`  // what to type next
	// Findings are the refusals of preflight.
	Findings []Finding `json:"findings,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Finding is one answer of preflight that stands in the way.
type Finding struct {
	Code   string `json:"code"`
	Cause  string `json:"cause"`
	Remedy string `json:"remedy"`
}

// Code says what kind of failure it was.
type Code string

// The codes; see Exit for what they mean to a script.
const (
	Failed      Code = "failed"
	Usage       Code = "usage"
	Refused     Code = "refused" // by preflight; nothing was touched
	Aborted     Code = "aborted" // the job runs on where it was
	InDoubt     Code = "in-doubt"
	CleanupLeft Code = "cleanup-left" // moved, but something was left behind
	Cancelled   Code = "cancelled"
	NotFound    Code = "not-found"
	Forbidden   Code = "forbidden"
	Unreachable Code = "unreachable" // a node or its agent
	Busy        Code = "busy"        // the caller has too much under way; later it may be taken
	Quota       Code = "quota"       // the user keeps too much on the node
	HeldStill   Code = "suspended"   // by somebody else; nothing was touched
	Damaged     Code = "damaged"     // what this node has written down about it cannot be read
)

// Exit statuses of every command.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitRefused     = 3
	ExitAborted     = 4
	ExitInDoubt     = 5
	ExitCleanupLeft = 6
	ExitCancelled   = 130
)

// Exit is the exit status that a command ends with after err.
func Exit(err error) int {
	var e *Error
	if err == nil {
		return ExitDone
	}
	if !errors.As(err, &e) {
		return ExitFailed
	}
	switch e.Code {
	case Usage:
		return ExitUsage
	case Refused, HeldStill:
		return ExitRefused
	case Aborted:
		return ExitAborted
	case InDoubt:
		return ExitInDoubt
	case CleanupLeft:
		return ExitCleanupLeft
	case Cancelled:
		return ExitCancelled
	}
	return ExitFailed
}

// Status is the HTTP status that goes with a code.
func (c Code) Status() int {
	switch c {
	case Usage:
		return http.StatusBadRequest
	case Forbidden:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case Refused, Aborted, HeldStill, Damaged:
		return http.StatusConflict
	case Unreachable:
		return http.StatusBadGateway
	case Busy:
		return http.StatusTooManyRequests
	case Quota:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}
