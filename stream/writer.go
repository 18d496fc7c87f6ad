package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"
)

// Option changes how a stream is written.
type Option func(*Writer)

// WithCodec packs every frame that shrinks with codec, instead of choosing while
// running: for files, whose writes end in the page cache and measure nothing.
func WithCodec(codec Codec) Option {
	return func(w *Writer) { w.codec = codec }
}

// Stats counts what a Writer has written so far.
type Stats struct {
	Payload int64           // bytes before packing
	Wire    int64           // bytes written, headers included
	Frames  [Zstd + 1]int64 // data frames by Codec
	Packing time.Duration   // time spent on sampling and packing
	Writing time.Duration   // time spent in Write
}

// Writer writes one stream. It is for one goroutine. The first error is final:
// every later call returns it.
type Writer struct {
	out    io.Writer
	pair   pairWriter // out, if it can take header and payload together
	codec  Codec
	choose chooser
	pack   encoder
	sample []byte
	digest xxh3.Hasher
	fill   []byte // what Write has collected
	head   [headerSize]byte
	frames uint64
	stats  Stats
	err    error
	closed bool
}

// pairWriter is a data connection: it sends both parts with as few system calls as it can.
type pairWriter interface {
	WritePair(head, body []byte) (int, error)
}

// NewWriter begins a stream of the given kind on w. Its header goes out before the
// first frame; an error of that write is returned by the first call that writes.
func NewWriter(w io.Writer, kind uint16, options ...Option) *Writer {
	s := &Writer{out: w, codec: auto, choose: newChooser()}
	s.pair, _ = w.(pairWriter)
	for _, set := range options {
		set(s)
	}
	var head [headerSize]byte
	putStreamHeader(head[:], kind)
	s.write(head[:], nil)
	return s
}

// PreferSize says whether frames from now on are packed to spare the wire, as long as they
// shrink well, instead of to be across soonest: while nobody waits for them.
func (s *Writer) PreferSize(on bool) { s.choose.frugal = on }

// WriteFrame sends p as one frame, packed if that pays; the reader gets the same
// boundaries. p must have 1 to MaxFrame bytes (ErrFrameSize) and is not kept.
func (s *Writer) WriteFrame(p []byte) error {
	if err := s.Flush(); err != nil {
		return err
	}
	if len(p) == 0 || len(p) > MaxFrame {
		return fmt.Errorf("write stream: %d bytes: %w", len(p), ErrFrameSize)
	}
	return s.frame(p)
}

// Write implements io.Writer. It collects bytes to full frames; Flush, WriteFrame and
// Close send what is left.
func (s *Writer) Write(p []byte) (n int, err error) {
	if s.fill == nil {
		s.fill = alignedBuffer(MaxFrame)[:0]
	}
	for n < len(p) && s.usable() == nil {
		room := min(MaxFrame-len(s.fill), len(p)-n)
		s.fill = append(s.fill, p[n:n+room]...)
		n += room
		if len(s.fill) == MaxFrame {
			s.Flush()
		}
	}
	return n, s.usable()
}

// Flush sends what Write has collected as a frame.
func (s *Writer) Flush() error {
	if err := s.usable(); err != nil || len(s.fill) == 0 {
		return err
	}
	p := s.fill
	s.fill = s.fill[:0]
	return s.frame(p)
}

// Close sends the END, without which the stream is worth nothing to its reader. So
// call it when everything was written and never on the way out of an error. It leaves
// the underlying writer open. A second call changes nothing.
func (s *Writer) Close() error {
	if s.closed {
		return s.err
	}
	if err := s.Flush(); err != nil {
		return err
	}
	var end [endSize]byte
	binary.LittleEndian.PutUint64(end[0:], uint64(s.stats.Payload))
	binary.LittleEndian.PutUint64(end[8:], s.frames)
	sum := s.digest.Sum128().Bytes()
	copy(end[16:], sum[:])
	frameHeader{kind: frameEnd, length: endSize, raw: endSize}.put(s.head[:])
	s.write(s.head[:], end[:])
	s.closed = true
	return s.err
}

// Stats may be called by the goroutine that writes, also after Close.
func (s *Writer) Stats() Stats { return s.stats }

func (s *Writer) usable() error {
	if s.err == nil && s.closed {
		return errors.New("write stream: it has ended")
	}
	return s.err
}

func (s *Writer) frame(p []byte) error {
	s.digest.Write(p)
	codec, body, err := s.packed(p)
	if err != nil {
		s.err = fmt.Errorf("write stream: %w", err)
		return s.err
	}
	frameHeader{kind: frameData, codec: codec, length: uint32(len(body)), raw: uint32(len(p))}.put(s.head[:])
	s.write(s.head[:], body)
	s.frames++
	s.stats.Frames[codec]++
	s.stats.Payload += int64(len(p))
	return s.err
}

// packed decides on a codec and applies it; a payload that does not shrink goes as it is.
func (s *Writer) packed(p []byte) (Codec, []byte, error) {
	begin := time.Now()
	defer func() { s.stats.Packing += time.Since(begin) }()
	codec, ratio := s.codec, 1.0
	if codec == auto {
		codec, ratio = s.chosen(p)
	}
	if codec == None {
		return None, p, nil
	}
	start := time.Now()
	tried := codec
	body, err := s.pack.encode(tried, p)
	if err != nil {
		return None, nil, err
	}
	if body == nil {
		codec, body = None, p
	}
	s.choose.packed(tried, ratio, len(p), len(body), time.Since(start))
	return codec, body, nil
}

func (s *Writer) chosen(p []byte) (codec Codec, ratio float64) {
	if !s.choose.worthSampling() {
		return None, 1
	}
	if s.sample == nil {
		s.sample = make([]byte, s2.MaxEncodedLen(samplePiece))
	}
	begin := time.Now()
	ratio, n := sampleRatio(s.sample, p)
	s.choose.sampled(n, time.Since(begin))
	return s.choose.choose(ratio), ratio
}

func (s *Writer) write(head, body []byte) {
	begin := time.Now()
	n, err := s.writeBoth(head, body)
	took := time.Since(begin)
	s.stats.Writing += took
	s.stats.Wire += int64(n)
	s.choose.sent(n, took)
	if err != nil {
		s.err = fmt.Errorf("write stream: %w", err)
	}
}

func (s *Writer) writeBoth(head, body []byte) (int, error) {
	if s.pair != nil {
		return s.pair.WritePair(head, body)
	}
	n, err := s.out.Write(head)
	if err != nil || len(body) == 0 {
		return n, err
	}
	m, err := s.out.Write(body)
	return n + m, err
}
