package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// errMessageSize means that the length of a control message cannot be right.
var errMessageSize = errors.New("control message of impossible size")

// messageReader takes control messages apart. It keeps what it has of a message when a
// read times out, so that the next call goes on in the middle of it.
type messageReader struct {
	head [4]byte
	body []byte // nil while the head is not complete
	have int    // bytes of head or body
}

func (m *messageReader) next(r io.Reader) ([]byte, error) {
	if m.body == nil {
		if err := m.fill(r, m.head[:]); err != nil {
			return nil, err
		}
		size := binary.LittleEndian.Uint32(m.head[:])
		if size == 0 || size > MaxMessage {
			return nil, fmt.Errorf("%w: %d bytes, the limit is %d", errMessageSize, size, MaxMessage)
		}
		m.body, m.have = make([]byte, size), 0
	}
	if err := m.fill(r, m.body); err != nil {
		return nil, err
	}
	body := m.body
	m.body, m.have = nil, 0
	return body, nil
}

// fill returns io.EOF only between messages.
func (m *messageReader) fill(r io.Reader, b []byte) error {
	for m.have < len(b) {
		n, err := r.Read(b[m.have:])
		m.have += n
		if m.have == len(b) {
			return nil
		}
		if err == io.EOF && (m.have > 0 || m.body != nil) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}
