package stream

import (
	"fmt"
	"math/rand/v2"
)

// mixed is what a benchmark sends: frames of random bytes and of text-like ones in turn.
func mixed(frames int) [][]byte {
	random := rand.NewChaCha8([32]byte{1})
	words := rand.New(random)
	out := make([][]byte, frames)
	for i := range out {
		out[i] = make([]byte, MaxFrame)
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
