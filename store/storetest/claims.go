package storetest

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/store"
)

func claim(epoch int64) store.Claim {
	return store.Claim{Node: "n", Addr: "10.0.0.1:7707", Epoch: epoch, At: time.Unix(epoch, 0).UTC()}
}

func claimsInOrder(t *testing.T, s scene) {
	s.sealed(t).Discard()
	c := s.open(t)
	wants := func(want ...store.Claim) {
		t.Helper()
		if got, err := c.Claims(); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	wants()
	for _, epoch := range []int64{3, 9, 11} {
		if err := c.Claim(claim(epoch), epoch-1); err != nil {
			t.Fatal(err)
		}
	}
	wants(claim(3), claim(9), claim(11))
	if err := errors.Join(c.Release(11), c.Release(11)); err != nil {
		t.Error(err)
	}
	wants(claim(3), claim(9))
	s.isWhole(t)
}

func olderClaim(t *testing.T, s scene) {
	s.sealed(t).Discard()
	c := s.open(t)
	for _, try := range []struct {
		epoch, after int64
		want         error
	}{{7, 5, nil}, {9, 5, store.ErrClaimed}, {6, 5, store.ErrClaimed}, {7, 5, store.ErrClaimed}, {9, 7, nil}} {
		if err := c.Claim(claim(try.epoch), try.after); !errors.Is(err, try.want) {
			t.Errorf("epoch %d after %d: %v, want %v", try.epoch, try.after, err, try.want)
		}
	}
	if claims, err := c.Claims(); err != nil || len(claims) != 2 {
		t.Errorf("there are %v, %v", claims, err)
	}
}

// Nodes that have seen other moves of the job come with other epochs.
func oneClaims(t *testing.T, s scene) {
	s.sealed(t).Discard()
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		c := s.open(t)
		all.Go(func() {
			switch err := c.Claim(claim(7+int64(i%5)), 6); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, store.ErrClaimed):
				t.Error(err)
			}
		})
	}
	all.Wait()
	claims, err := s.open(t).Claims()
	if err != nil || won.Load() > 1 || len(claims) != int(won.Load()) {
		t.Errorf("%d restores claim it, and there are %v, %v", won.Load(), claims, err)
	}
}
