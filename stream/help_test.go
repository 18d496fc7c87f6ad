package stream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// golden compares got with a file in testdata; UPDATE_GOLDEN=1 writes it instead.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := readGolden(t, name); !bytes.Equal(got, want) {
		t.Errorf("%s: the format has changed; that needs a new version and a new file\n got %q\nwant %q", name, got, want)
	}
}

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

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
