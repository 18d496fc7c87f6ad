package parallel

import (
	"errors"
	"sync/atomic"
	"testing"
)

func TestEachNumberHasItsTurnOnce(t *testing.T) {
	for _, n := range []int{0, 1, atOnce, 10*atOnce + 1} {
		turns := make([]atomic.Int32, n)
		if err := Each(n, func(i int) error { turns[i].Add(1); return nil }); err != nil {
			t.Error(err)
		}
		for i := range turns {
			if turns[i].Load() != 1 {
				t.Errorf("of %d, number %d had %d turns", n, i, turns[i].Load())
			}
		}
	}
	broken := errors.New("broken")
	if err := Each(10*atOnce, func(i int) error {
		if i == 3*atOnce {
			return broken
		}
		return nil
	}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
