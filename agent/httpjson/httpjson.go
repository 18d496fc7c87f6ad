package httpjson

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
)

// PeerTimeout is how long another node may take to answer a question.
const PeerTimeout = 5 * time.Second

// Events begins an answer of events, one JSON object a line. What is written is sent at once.
func Events(w http.ResponseWriter) io.Writer {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return Flushed(w)
}

// Flushed is a writer to an answer that sends what is written at once.
func Flushed(w http.ResponseWriter) io.Writer { return &flusher{w, http.NewResponseController(w)} }

type flusher struct {
	w   io.Writer
	ctl *http.ResponseController
}

func (f *flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.ctl.Flush()
}

func Decode(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return &api.Error{Code: api.CodeUsage, Message: "the request makes no sense: " + err.Error(), Hint: "are the command and the agent of the same version? see `migrate version`"}
	}
	return nil
}

func Reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a connection has deadlines
	_ = json.NewEncoder(w).Encode(v)                           // whoever asked may be gone by now
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}

func ReplyError(w http.ResponseWriter, err error) {
	e := ErrorOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.Status())
	_ = json.NewEncoder(w).Encode(e)
}

// ErrorOf gives every error the form in which it can be told.
func ErrorOf(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return &api.Error{Code: api.CodeFailed, Message: err.Error()}
}

const MaxBody = 64 << 10 // bytes of a request's body; api.MaxCommandBody where a command is in it

const writeTimeout = 30 * time.Second // that a caller has to take an answer

// BusyPause is how long a shim that does not answer is left alone.
const BusyPause = 50 * time.Millisecond
