package transport

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/migrate-hpc/migrate/transport/pki"
)

// Versions of the move protocol that this program speaks.
const (
	VersionMin = 1
	VersionMax = 1
)

const (
	maxHello     = 64 << 10
	maxFeatures  = 64
	maxFeature   = 64 // bytes
	sessionBytes = 16
)

// MaxData is the largest number of data connections of a session.
const MaxData = 16

// helloMagic begins a hello: four bytes that no JSON and no HTTP request begin with.
const helloMagic = "MGRH"

// Role of a connection within its session.
type Role string

// A session is one control connection and up to MaxData data connections.
const (
	Control Role = "control"
	Data    Role = "data"
)

// ErrHello is wrapped by every error over a malformed hello.
var ErrHello = errors.New("malformed hello")

// Hello is the first thing that each side says on each connection. The dialler speaks
// first; the listener's answer repeats session, role, index and data.
type Hello struct {
	VersionMin int      `json:"version_min"`
	VersionMax int      `json:"version_max"`
	Features   []string `json:"features"`
	Node       string   `json:"node"`
	Session    string   `json:"session"` // 16 random bytes in lower-case hex, chosen by the dialler
	Role       Role     `json:"role"`
	Index      int      `json:"index"`             // of a data connection, from 0; 0 for control
	Data       int      `json:"data"`              // data connections of the session
	Time       int64    `json:"time_unix_ns"`      // the sender's CLOCK_REALTIME
	Refused    *Error   `json:"refused,omitempty"` // in an answer: why there will be no session
}

// WriteHello sends h in one Write.
func WriteHello(w io.Writer, h Hello) error {
	if err := h.check(); err != nil {
		return err
	}
	body, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	if len(body) > maxHello {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrHello, len(body), maxHello)
	}
	frame := append([]byte(helloMagic), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(body)))
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	return nil
}

// ReadHello reads one hello and not a byte more. Fields that it does not know are
// ignored, for a later version may add some.
func ReadHello(r io.Reader) (Hello, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Hello{}, fmt.Errorf("read hello: %w", err)
	}
	if string(head[:4]) != helloMagic {
		return Hello{}, fmt.Errorf("%w: it begins with %q, not %q", ErrHello, head[:4], helloMagic)
	}
	size := binary.LittleEndian.Uint32(head[4:])
	if size > maxHello {
		return Hello{}, fmt.Errorf("%w: %d bytes announced, the limit is %d", ErrHello, size, maxHello)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return Hello{}, fmt.Errorf("read hello: %w", err)
	}
	return decodeHello(body)
}

func decodeHello(body []byte) (Hello, error) {
	var h Hello
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&h); err != nil {
		return Hello{}, fmt.Errorf("%w: %w", ErrHello, err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Hello{}, fmt.Errorf("%w: something follows the JSON", ErrHello)
	}
	return h, h.check()
}

// check holds every field to the range that the rest of the package relies on.
func (h Hello) check() error {
	if h.VersionMin < 1 || h.VersionMax < h.VersionMin {
		return fmt.Errorf("%w: versions %d to %d", ErrHello, h.VersionMin, h.VersionMax)
	}
	if err := pki.CheckNodeName(h.Node); err != nil {
		return fmt.Errorf("%w: %w", ErrHello, err)
	}
	id, err := hex.DecodeString(h.Session)
	if err != nil || len(id) != sessionBytes || hex.EncodeToString(id) != h.Session {
		return fmt.Errorf("%w: session %q is not %d bytes in lower-case hex", ErrHello, h.Session, sessionBytes)
	}
	if err := h.checkPlace(); err != nil {
		return err
	}
	if len(h.Features) > maxFeatures {
		return fmt.Errorf("%w: %d features, the limit is %d", ErrHello, len(h.Features), maxFeatures)
	}
	for _, f := range h.Features {
		if f == "" || len(f) > maxFeature {
			return fmt.Errorf("%w: a feature of %d bytes, not 1 to %d", ErrHello, len(f), maxFeature)
		}
	}
	return nil
}

func (h Hello) checkPlace() error {
	if h.Data < 0 || h.Data > MaxData {
		return fmt.Errorf("%w: %d data connections, the limit is %d", ErrHello, h.Data, MaxData)
	}
	switch {
	case h.Role == Control && h.Index == 0:
	case h.Role == Data && h.Index >= 0 && h.Index < h.Data:
	default:
		return fmt.Errorf("%w: no place for a %q connection %d of %d", ErrHello, h.Role, h.Index, h.Data)
	}
	return nil
}

// agree returns the highest version and the features that both sides have.
func agree(ours, theirs Hello) (version int, features []string, err error) {
	version = min(ours.VersionMax, theirs.VersionMax)
	if version < max(ours.VersionMin, theirs.VersionMin) {
		return 0, nil, &Error{
			Code: CodeVersion,
			Message: fmt.Sprintf("no common protocol version: node %s speaks %d to %d, node %s %d to %d",
				ours.Node, ours.VersionMin, ours.VersionMax, theirs.Node, theirs.VersionMin, theirs.VersionMax),
			Hint: "upgrade the older agent (`migrate version` on both nodes shows which it is); running jobs are not affected",
		}
	}
	for _, f := range ours.Features {
		if slices.Contains(theirs.Features, f) && !slices.Contains(features, f) {
			features = append(features, f)
		}
	}
	slices.Sort(features)
	return version, features, nil
}
