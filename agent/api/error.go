package api

import (
	"errors"
	"net/http"
)

// Error is a failure as an agent reports it: what happened and why, where the job
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

// The codes; see ExitStatus for what they mean to a script.
const (
	CodeFailed      Code = "failed"
	CodeUsage       Code = "usage"
	CodeRefused     Code = "refused" // by preflight; nothing was touched
	CodeAborted     Code = "aborted" // the job runs on where it was
	CodeInDoubt     Code = "in-doubt"
	CodeCleanupLeft Code = "cleanup-left" // moved, but something was left behind
	CodeCancelled   Code = "cancelled"
	CodeNotFound    Code = "not-found"
	CodeForbidden   Code = "forbidden"
	CodeUnreachable Code = "unreachable" // a node or its agent
	CodeBusy        Code = "busy"        // the caller has too many requests under way; it may try again
	CodeQuota       Code = "quota"       // the user keeps too much on the node
	CodeSuspended   Code = "suspended"   // another program has frozen the job; nothing was touched
	CodeDamaged     Code = "damaged"     // this node's record of it cannot be read
	CodeEnded       Code = "ended"       // the job, by itself, before the operation was done
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
	ExitEnded       = 7
	ExitCancelled   = 130
)

// ExitStatus is the exit status of a command after err.
func ExitStatus(err error) int {
	var e *Error
	if err == nil {
		return ExitDone
	}
	if !errors.As(err, &e) {
		return ExitFailed
	}
	switch e.Code {
	case CodeUsage:
		return ExitUsage
	case CodeRefused, CodeSuspended:
		return ExitRefused
	case CodeAborted:
		return ExitAborted
	case CodeInDoubt:
		return ExitInDoubt
	case CodeCleanupLeft:
		return ExitCleanupLeft
	case CodeEnded:
		return ExitEnded
	case CodeCancelled:
		return ExitCancelled
	}
	return ExitFailed
}

// Status is the HTTP status that goes with a code.
func (c Code) Status() int {
	switch c {
	case CodeUsage:
		return http.StatusBadRequest
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeRefused, CodeAborted, CodeSuspended, CodeDamaged, CodeEnded:
		return http.StatusConflict
	case CodeUnreachable:
		return http.StatusBadGateway
	case CodeBusy:
		return http.StatusTooManyRequests
	case CodeQuota:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}
