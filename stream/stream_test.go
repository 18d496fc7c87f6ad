package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

// payloads are three frames: one that shrinks, one that does not, one that is tiny.
func payloads() [][]byte {
	noise := make([]byte, 300)
	rand.NewChaCha8([32]byte{7}).Read(noise)
	return [][]byte{bytes.Repeat([]byte("page "), 100), noise, {42}}
}

func write(t testing.TB, frames [][]byte, options ...Option) []byte {
	t.Helper()
	var b bytes.Buffer
	s := NewWriter(&b, 7, options...)
	for _, p := range frames {
		if err := s.WriteFrame(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Read returns the frames up to the first error, which is io.EOF for a good stream.
func read(r io.Reader) (frames [][]byte, err error) {
	s, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	for {
		p, err := s.ReadFrame()
		if err != nil {
			return frames, err
		}
		frames = append(frames, slices.Clone(p))
	}
}

func sameFrames(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

func TestStreamKeepsFramesAndTheirBoundaries(t *testing.T) {
	full := make([]byte, MaxFrame)
	frames := append(payloads(), full, full[:1])
	for _, codec := range []Codec{auto, None, S2, Zstd} {
		got, err := read(bytes.NewReader(write(t, frames, WithCodec(codec))))
		if err != io.EOF || !sameFrames(got, frames) {
			t.Errorf("%s: %d frames, %v", codec, len(got), err)
		}
	}
}

func TestStreamKeepsItsFormat(t *testing.T) {
	var head [headerSize]byte
	frameHeader{kind: frameData, codec: Zstd, length: 5, raw: MaxFrame}.put(head[:])
	testenv.Golden(t, "frame-v1.bin", head[:])
	testenv.Golden(t, "stream-v1-none.bin", write(t, payloads(), WithCodec(None)))
	if got, err := read(bytes.NewReader(testenv.ReadGolden(t, "stream-v1-none.bin"))); err != io.EOF || !sameFrames(got, payloads()) {
		t.Errorf("unpacked: %d frames, %v", len(got), err)
	}
}

// What a packer makes of a frame may change with its version; that it can be unpacked may not.
func TestPackedStreamsOfVersion1AreRead(t *testing.T) {
	for name, codec := range map[string]Codec{"stream-v1-s2.bin": S2, "stream-v1-zstd.bin": Zstd} {
		got, err := read(bytes.NewReader(testenv.ReadGolden(t, name)))
		if err != io.EOF || !sameFrames(got, payloads()) {
			t.Errorf("%s: %d frames, %v", name, len(got), err)
		}
		if at := headerSize + 1; Codec(testenv.ReadGolden(t, name)[at]) != codec {
			t.Errorf("%s: its first frame is not packed with %s", name, codec)
		}
	}
}

func TestAnEmptyStreamIsValid(t *testing.T) {
	if got, err := read(bytes.NewReader(write(t, nil))); err != io.EOF || len(got) != 0 {
		t.Errorf("%d frames, %v", len(got), err)
	}
}

func TestAStreamCutAnywhereIsTruncated(t *testing.T) {
	for _, codec := range []Codec{None, S2, Zstd} {
		whole := write(t, payloads(), WithCodec(codec))
		for n := range len(whole) {
			_, err := read(bytes.NewReader(whole[:n]))
			if !errors.Is(err, ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s cut after %d of %d bytes: %v", codec, n, len(whole), err)
			}
		}
	}
}

func TestNoFlippedBitGoesUnnoticed(t *testing.T) {
	frames := [][]byte{bytes.Repeat([]byte("page "), 20), []byte("abc")}
	for _, codec := range []Codec{None, S2, Zstd} {
		whole := write(t, frames, WithCodec(codec))
		for bit := range 8 * len(whole) {
			harmed := slices.Clone(whole)
			harmed[bit/8] ^= 1 << (bit % 8)
			got, err := read(bytes.NewReader(harmed))
			if err == io.EOF && !sameFrames(got, frames) {
				t.Fatalf("%s: bit %d flipped and not noticed", codec, bit)
			}
			if codec == None && err == io.EOF {
				t.Fatalf("bit %d flipped and not noticed", bit)
			}
		}
	}
}

func TestADigestOfOtherPayloadsIsRefused(t *testing.T) {
	whole := write(t, payloads(), WithCodec(None))
	whole[3*headerSize+len(payloads()[0])+5] ^= 1
	if _, err := read(bytes.NewReader(whole)); !errors.Is(err, ErrDigest) {
		t.Errorf("%v, want ErrDigest", err)
	}
}

func TestAMissingFrameIsNoticed(t *testing.T) {
	whole := write(t, payloads(), WithCodec(None))
	first := 2*headerSize + len(payloads()[0])
	without := append(slices.Clone(whole[:headerSize]), whole[first:]...)
	if _, err := read(bytes.NewReader(without)); !errors.Is(err, ErrDigest) {
		t.Errorf("%v, want ErrDigest", err)
	}
}

// header is a stream whose first frame has this header and nothing behind it.
func header(h frameHeader) []byte {
	b := make([]byte, 2*headerSize)
	putStreamHeader(b, 7)
	h.put(b[headerSize:])
	return b
}

func TestImpossibleHeadersAreRefusedBeforeTheBodyIsRead(t *testing.T) {
	for name, h := range map[string]frameHeader{
		"above MaxFrame":        {frameData, None, MaxFrame + 1, MaxFrame + 1},
		"unpacks above":         {frameData, S2, 10, MaxFrame + 1},
		"4 GiB":                 {frameData, None, 1<<32 - 1, 1<<32 - 1},
		"empty":                 {frameData, None, 0, 0},
		"empty packed":          {frameData, S2, 0, 10},
		"packing that grows":    {frameData, S2, 10, 10},
		"lengths that differ":   {frameData, None, 9, 10},
		"unknown codec":         {frameData, 3, 9, 10},
		"unknown type":          {3, None, 10, 10},
		"end of another length": {frameEnd, None, 40, 40},
		"packed end":            {frameEnd, S2, endSize, endSize},
	} {
		if _, err := read(bytes.NewReader(header(h))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func TestAFrameThatUnpacksToAnotherSizeIsRefused(t *testing.T) {
	for _, codec := range []Codec{S2, Zstd} {
		var e encoder
		packed, err := e.encode(codec, bytes.Repeat([]byte("page "), 2000))
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range []uint32{9999, 10001, MaxFrame} {
			b := append(header(frameHeader{frameData, codec, uint32(len(packed)), raw}), packed...)
			if _, err := read(bytes.NewReader(b)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s announced as %d bytes: %v, want ErrCorrupt", codec, raw, err)
			}
		}
	}
}

func TestAnotherKindOrVersionIsRefused(t *testing.T) {
	whole := write(t, payloads())
	if s, err := NewReader(bytes.NewReader(whole), 6, 7); err != nil || s.Kind() != 7 {
		t.Errorf("one of the kinds: %v", err)
	}
	if _, err := NewReader(bytes.NewReader(whole), 6); !errors.Is(err, ErrKind) {
		t.Errorf("another kind: %v, want ErrKind", err)
	}
	binary.LittleEndian.PutUint16(whole[4:], streamVersion+1)
	seal(whole)
	if _, err := NewReader(bytes.NewReader(whole)); !errors.Is(err, ErrKind) {
		t.Errorf("another version: %v, want ErrKind", err)
	}
	if _, err := NewReader(bytes.NewReader(make([]byte, 100))); !errors.Is(err, ErrKind) {
		t.Errorf("zeros: %v, want ErrKind", err)
	}
}

func TestStreamsFollowEachOtherOnOneConnection(t *testing.T) {
	b := bytes.NewReader(append(write(t, payloads()), write(t, payloads()[1:])...))
	for i := range 2 {
		if got, err := read(b); err != io.EOF || !sameFrames(got, payloads()[i:]) {
			t.Errorf("stream %d: %d frames, %v", i, len(got), err)
		}
	}
	if b.Len() != 0 {
		t.Errorf("%d bytes left", b.Len())
	}
}

func TestBytesWrittenAreBytesRead(t *testing.T) {
	want := make([]byte, 2*MaxFrame+100)
	rand.NewChaCha8([32]byte{}).Read(want)
	var b bytes.Buffer
	s := NewWriter(&b, 1)
	for piece := range slices.Chunk(want, 70_001) {
		if n, err := s.Write(piece); err != nil || n != len(piece) {
			t.Fatal(n, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Payload != int64(len(want)) || st.Wire != int64(b.Len()) || st.Frames[None] != 3 {
		t.Errorf("%+v for %d bytes in %d", st, len(want), b.Len())
	}
	r, err := NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestWriteFrameComesAfterWhatWasWrittenBefore(t *testing.T) {
	var b bytes.Buffer
	s := NewWriter(&b, 1)
	_, err := s.Write([]byte("one"))
	if err := errors.Join(err, s.WriteFrame([]byte("two")), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := read(&b); err != io.EOF || !sameFrames(got, [][]byte{[]byte("one"), []byte("two")}) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAFrameOfAnImpossibleSizeIsNotSent(t *testing.T) {
	var b bytes.Buffer
	s := NewWriter(&b, 1)
	if err := s.WriteFrame(make([]byte, MaxFrame+1)); !errors.Is(err, ErrFrameSize) {
		t.Errorf("above MaxFrame: %v, want ErrFrameSize", err)
	}
	if err := s.WriteFrame(nil); !errors.Is(err, ErrFrameSize) {
		t.Errorf("empty: %v, want ErrFrameSize", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFrame([]byte{1}); err == nil {
		t.Error("wrote behind the END")
	}
}

// cutAfter takes n bytes and fails from then on.
type cutAfter struct {
	io.Writer
	n int
}

var errCut = errors.New("cut")

func (c *cutAfter) Write(p []byte) (int, error) {
	if len(p) > c.n {
		n, _ := c.Writer.Write(p[:c.n])
		c.n = 0
		return n, errCut
	}
	c.n -= len(p)
	return c.Writer.Write(p)
}

func TestAFailedWriteIsFinal(t *testing.T) {
	size := len(write(t, payloads(), WithCodec(S2)))
	for n := range size {
		var b bytes.Buffer
		s := NewWriter(&cutAfter{&b, n}, 7, WithCodec(S2))
		for _, p := range payloads() {
			s.WriteFrame(p)
		}
		if err := s.Close(); !errors.Is(err, errCut) {
			t.Fatalf("cut after %d of %d bytes: Close: %v", n, size, err)
		}
		if _, err := s.Write([]byte{1}); !errors.Is(err, errCut) {
			t.Fatalf("cut after %d bytes: Write: %v", n, err)
		}
		if b.Len() != n || s.Stats().Wire != int64(n) {
			t.Fatalf("cut after %d bytes: %d written, %d counted", n, b.Len(), s.Stats().Wire)
		}
	}
}

// underRace: sync.Pool, which the packers use, then forgets things at random.
func underRace() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func TestNoAllocationPerFrame(t *testing.T) {
	frames := mixed(2)
	codecs := []Codec{None, auto, S2, Zstd}
	if underRace() {
		codecs = codecs[:1]
	}
	for _, codec := range codecs {
		var b bytes.Buffer
		b.Grow(4 << 20)
		s := NewWriter(&b, 1, WithCodec(codec))
		send := func() {
			b.Reset()
			for _, p := range frames {
				s.WriteFrame(p)
			}
		}
		send()
		if n := testing.AllocsPerRun(10, send); n > 1 {
			t.Errorf("%s: %.0f allocations for two frames", codec, n)
		}
	}
}

func FuzzStream(f *testing.F) {
	for _, name := range []string{"stream-v1-none.bin", "stream-v1-s2.bin", "stream-v1-zstd.bin"} {
		f.Add(testenv.ReadGolden(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, err := read(bytes.NewReader(data))
		if err != io.EOF {
			return
		}
		again, err := read(bytes.NewReader(write(t, frames)))
		if err != io.EOF || !sameFrames(again, frames) {
			t.Errorf("accepted, but does not survive a second trip: %v", err)
		}
	})
}

// FuzzFrame takes the checksum out of the way, so that the checks behind it are reached.
func FuzzFrame(f *testing.F) {
	f.Add(testenv.ReadGolden(f, "frame-v1.bin"), []byte("body"))
	for _, codec := range []Codec{S2, Zstd} {
		var e encoder
		body, err := e.encode(codec, payloads()[0])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(header(frameHeader{frameData, codec, uint32(len(body)), uint32(len(payloads()[0]))})[headerSize:], body)
	}
	f.Fuzz(func(t *testing.T, head, body []byte) {
		if len(head) != headerSize {
			return
		}
		seal(head)
		b := header(frameHeader{})[:headerSize]
		frames, err := read(bytes.NewReader(append(append(b, head...), body...)))
		if err == io.EOF && len(frames) > 0 {
			t.Error("a stream without END was accepted")
		}
		if len(frames) > 0 && len(frames[0]) != int(binary.LittleEndian.Uint32(head[8:])) {
			t.Errorf("a frame of %d bytes, announced otherwise", len(frames[0]))
		}
	})
}

func TestFramesInAnotherOrderOrTwiceAreRefused(t *testing.T) {
	frames := [][]byte{[]byte("first frame"), []byte("other frame")} // alike but for their bytes
	whole := write(t, frames, WithCodec(None))
	size := headerSize + len(frames[0])
	head, one, two, end := whole[:headerSize], whole[headerSize:][:size], whole[headerSize+size:][:size], whole[headerSize+2*size:]
	for name, parts := range map[string][][]byte{
		"the other way round": {head, two, one, end},
		"one twice":           {head, one, one, end},
		"one more":            {head, one, two, two, end},
	} {
		if _, err := read(bytes.NewReader(bytes.Join(parts, nil))); !errors.Is(err, ErrDigest) {
			t.Errorf("%s: %v, want ErrDigest", name, err)
		}
	}
	if got, err := read(bytes.NewReader(bytes.Join([][]byte{head, one, two, end}, nil))); err != io.EOF || !sameFrames(got, frames) {
		t.Errorf("as it was: %v", err)
	}
}
