package httpjson

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/exactjson"
)

// PeerTimeout bounds a question to another node.
const PeerTimeout = 5 * time.Second

// Events begins an answer of events, one JSON object a line. Each write is sent at once.
func Events(w http.ResponseWriter) io.Writer {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return Flushed(w)
}

// Flushed is a writer of an answer that sends each write at once.
func Flushed(w http.ResponseWriter) io.Writer { return &flusher{w, http.NewResponseController(w)} }

type flusher struct {
	w   io.Writer
	ctl *http.ResponseController
}

// Write sends p at once.
func (f *flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.ctl.Flush()
}

// Decode reads the body of a request into into. Unknown fields and bad JSON fail with api.CodeUsage.
func Decode(r *http.Request, into any) error {
	dec := exactjson.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return &api.Error{Code: api.CodeUsage, Message: "the request makes no sense: " + err.Error(), Hint: "are the command and the agent of the same version? see `migrate version`"}
	}
	return nil
}

// Reply answers with v, within writeTimeout. It returns nil always: a caller may have left by then.
func Reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a connection has deadlines
	_ = exactjson.NewEncoder(w).Encode(v)                      // the caller may have left
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}

// ReplyError answers with an error, and the status of its code.
func ReplyError(w http.ResponseWriter, err error) {
	e := ErrorOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.Status())
	_ = exactjson.NewEncoder(w).Encode(e)
}

// ErrorOf is err as the API has it; an error without a code gets api.CodeFailed.
func ErrorOf(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return &api.Error{Code: api.CodeFailed, Message: err.Error()}
}

// MaxBody bounds the body of a request, in bytes. With a command in it, api.MaxCommandBody does.
const MaxBody = 64 << 10

// writeTimeout is how long a caller may take to read an answer.
const writeTimeout = 30 * time.Second

// BusyPause is the pause before a shim that did not answer is asked again.
const BusyPause = 50 * time.Millisecond
