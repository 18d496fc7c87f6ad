package transport

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/stream"
)

// mixed is what a benchmark sends: frames of random bytes and of text-like ones in turn.
func mixed(frames int) [][]byte {
	random := rand.NewChaCha8([32]byte{1})
	words := rand.New(random)
	out := make([][]byte, frames)
	for i := range out {
		out[i] = make([]byte, stream.MaxFrame)
		random.Read(out[i])
		if i%2 == 1 {
			textLike(words, out[i])
		}
	}
	return out
}

func textLike(r *rand.Rand, b []byte) {
	for n := 0; n < len(b); {
		n += copy(b[n:], fmt.Sprintf("step %d energy %.4f pressure %.2f\n", r.IntN(1e6), r.Float64(), r.Float64()))
	}
}

func BenchmarkStreamOverTwoConnections(b *testing.B) {
	for name, options := range map[string][]stream.Option{
		"chosen": nil, "none": {stream.WithCodec(stream.None)}, "s2": {stream.WithCodec(stream.S2)}, "zstd": {stream.WithCodec(stream.Zstd)},
	} {
		b.Run(name, func(b *testing.B) {
			from, to := pair(b, 2)
			frames := mixed(16)
			b.SetBytes(2 * stream.MaxFrame)
			b.ResetTimer()
			var all sync.WaitGroup
			for i := range 2 {
				all.Go(func() { drain(b, to.Data()[i]) })
				all.Go(func() { pour(b, from.Data()[i], frames, options) })
			}
			all.Wait()
			b.ReportMetric(float64(from.Sent())/float64(b.N)/(2*stream.MaxFrame), "wire/payload")
		})
	}
}

func pour(b *testing.B, w io.Writer, frames [][]byte, options []stream.Option) {
	s := stream.NewWriter(w, 1, options...)
	for i := range b.N {
		if err := s.WriteFrame(frames[i%len(frames)]); err != nil {
			b.Error(err)
			return
		}
	}
	if err := s.Close(); err != nil {
		b.Error(err)
	}
}

func drain(b *testing.B, r io.Reader) {
	s, err := stream.NewReader(r)
	for err == nil {
		_, err = s.ReadFrame()
	}
	if err != io.EOF {
		b.Error(err)
	}
}

// BenchmarkTLSAlone is what the streams can at best reach.
func BenchmarkTLSAlone(b *testing.B) {
	from, to := pair(b, 2)
	frame := make([]byte, stream.MaxFrame)
	b.SetBytes(2 * stream.MaxFrame)
	b.ResetTimer()
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			into := make([]byte, stream.MaxFrame)
			for range b.N {
				if _, err := io.ReadFull(to.Data()[i], into); err != nil {
					b.Error(err)
					return
				}
			}
		})
		all.Go(func() {
			for range b.N {
				if _, err := from.Data()[i].Write(frame); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
