package shim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/migrate-hpc/migrate/stream"
)

func framed(frames ...[]byte) (b []byte) {
	for _, f := range frames {
		b = append(binary.NativeEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	return b
}

// framesOf collects the frames of a body.
func framesOf(body []byte) (all [][]byte, err error) {
	err = eachFrame(bytes.NewReader(body), func(f []byte) error {
		all = append(all, bytes.Clone(f))
		return nil
	})
	return all, err
}

func TestABodyOfPagesThatIsCutIsRefused(t *testing.T) {
	whole := framed([]byte("one"), []byte("two"))
	if got, err := framesOf(whole); err != nil || len(got) != 2 {
		t.Fatalf("%q, %v", got, err)
	}
	for n := 1; n < len(whole); n++ {
		if _, err := framesOf(whole[:n]); n != 7 && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	for _, size := range []uint32{0, stream.MaxBatch + 1, 1 << 31} {
		if got, err := framesOf(binary.NativeEndian.AppendUint32(nil, size)); err == nil {
			t.Errorf("a frame of %d bytes passes: %q", size, got)
		}
	}
}

// FuzzFrames holds that a body which is taken reads as its frames, and none is larger
// than a batch.
func FuzzFrames(f *testing.F) {
	f.Add(framed(stream.AppendZero(nil, 7, 1<<20, 3), []byte("x")))
	f.Add(framed([]byte("cut"))[:5])
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		frames, err := framesOf(body)
		again := framed(frames...)
		if err == nil && !bytes.Equal(again, body) || !bytes.HasPrefix(body, again) {
			t.Errorf("it reads as something else: %q", frames)
		}
	})
}
