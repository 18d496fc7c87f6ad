package transport

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/migrate-hpc/migrate/exactjson"
)

// MaxMessage bounds a control message, in bytes of JSON.
const MaxMessage = 1 << 20

// maxType bounds the type of a message, which ends up in logs, in bytes.
const maxType = 64

// typeError is the Type of a message that carries an Error.
const typeError = "error"

// Message is what travels on the control connection. Body may be absent.
type Message struct {
	Type string          `json:"type"`
	Body json.RawMessage `json:"body,omitempty"`
}

// NewMessage encodes body, unless it is nil, as JSON.
func NewMessage(kind string, body any) (Message, error) {
	if body == nil {
		return Message{Type: kind}, nil
	}
	data, err := exactjson.Marshal(body)
	if err != nil {
		return Message{}, fmt.Errorf("encode message %s: %w", kind, err)
	}
	return Message{Type: kind, Body: data}, nil
}

// Decode reads the body into v. Fields that v lacks are ignored: a newer peer may send more.
func (m Message) Decode(v any) error {
	if err := exactjson.Unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("decode message %s: %w", m.Type, err)
	}
	return nil
}

// Codes of the errors that the transport itself sends. Others are their senders'.
const (
	CodeInternal = "internal"         // an error that its sender gave no code
	CodeVersion  = "protocol_version" // no version that both speak
	CodeIdentity = "node_name"        // the name in the hello is not the one in the certificate
	CodeBusy     = "busy"             // too many sessions are being set up
	CodeSession  = "unknown_session"  // a data connection that no session waits for
)

// Error is how every failure crosses the control connection. Message says what and
// why, Hint what to do about it.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (e *Error) Error() string {
	return e.Message
}

// asError finds the Error in err's chain, or makes one. The message is that of the
// whole chain, for what was being done matters to the peer too.
func asError(err error) *Error {
	var found *Error
	if !errors.As(err, &found) {
		return &Error{Code: CodeInternal, Message: err.Error()}
	}
	if err == error(found) {
		return found
	}
	return &Error{Code: found.Code, Message: err.Error()}
}
