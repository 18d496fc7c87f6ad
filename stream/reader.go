package stream

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// Reader reads one stream and not a byte beyond its END, so that another may
// follow on the same connection. It is for one goroutine. What it returns is complete
// and right only once it has returned io.EOF.
type Reader struct {
	in     io.Reader
	kind   uint16
	unpack decoder
	body   []byte // of the frame as it came
	digest xxh3.Hasher
	bytes  uint64
	frames uint64
	head   [headerSize]byte
	rest   []byte // of the frame that Read is in
	err    error
}

// NewReader reads the stream's header. Without kinds every kind is accepted,
// otherwise another one is ErrKind.
func NewReader(r io.Reader, kinds ...uint16) (*Reader, error) {
	s := &Reader{in: r}
	if err := s.full(s.head[:]); err != nil {
		return nil, fmt.Errorf("read stream: header: %w", err)
	}
	kind, err := parseStreamHeader(s.head[:])
	if err != nil {
		return nil, fmt.Errorf("read stream: %w", err)
	}
	s.kind = kind
	for _, k := range kinds {
		if k == kind {
			return s, nil
		}
	}
	if len(kinds) > 0 {
		return nil, fmt.Errorf("read stream: %w: kind %d, not %d", ErrKind, kind, kinds)
	}
	return s, nil
}

// Kind is the number that the writer gave the stream.
func (s *Reader) Kind() uint16 { return s.kind }

// ReadFrame returns the next frame's payload, valid until the next call. It returns
// io.EOF after an END that matches all that was read (else ErrDigest), ErrTruncated if
// the stream stops before, ErrCorrupt for what no writer wrote. The first error is final.
func (s *Reader) ReadFrame() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	payload, err := s.next()
	if err == io.EOF {
		s.unpack.close()
		s.err = io.EOF
		return nil, io.EOF
	}
	if err != nil {
		s.unpack.close()
		s.err = fmt.Errorf("read stream: frame %d: %w", s.frames, err)
		return nil, s.err
	}
	s.frames++
	s.bytes += uint64(len(payload))
	s.digest.Write(payload)
	return payload, nil
}

// Read implements io.Reader over the payloads.
func (s *Reader) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		frame, err := s.ReadFrame()
		if err != nil {
			return 0, err
		}
		s.rest = frame
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *Reader) next() ([]byte, error) {
	if err := s.full(s.head[:]); err != nil {
		return nil, err
	}
	h, err := parseFrame(s.head[:])
	if err != nil {
		return nil, err
	}
	s.body = atLeast(s.body, int(h.length))
	body := s.body[:h.length]
	if err := s.full(body); err != nil {
		return nil, err
	}
	switch {
	case h.kind == frameEnd:
		return nil, s.checkEnd(body)
	case h.codec == None:
		return body, nil
	}
	return s.unpack.decode(h.codec, body, int(h.raw))
}

// checkEnd returns io.EOF if the END agrees with what was read.
func (s *Reader) checkEnd(end []byte) error {
	bytes, frames := binary.LittleEndian.Uint64(end), binary.LittleEndian.Uint64(end[8:])
	if bytes != s.bytes || frames != s.frames {
		return fmt.Errorf("%w: %d bytes in %d frames read, %d in %d written", ErrDigest, s.bytes, s.frames, bytes, frames)
	}
	if sum := s.digest.Sum128().Bytes(); sum != [16]byte(end[16:]) {
		return fmt.Errorf("%w: digest %x of what was read, %x of what was written", ErrDigest, sum, end[16:])
	}
	return io.EOF
}

// full reads all of b. Whatever ends the reading before, at whatever byte, is
// ErrTruncated; a cause other than the end is wrapped as well.
func (s *Reader) full(b []byte) error {
	_, err := io.ReadFull(s.in, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrTruncated
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	return nil
}
