package caller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestShareIsOfOneUserOfAllAndNotOfRoot(t *testing.T) {
	s := NewShare(10, 25)
	take := func(c Caller, n int64, want bool) (give func()) {
		t.Helper()
		give, ok := s.Take(c, n)
		if ok != want {
			t.Errorf("%+v takes %d: %v", c, n, ok)
		}
		return give
	}
	user := func(uid uint32, peer string) Caller { return Caller{UID: uid, Peer: peer} }
	first := take(user(1, ""), 8, true)
	take(user(1, ""), 3, false)
	take(user(1, ""), 2, true)
	take(user(1, ""), 1, false)
	take(user(1, "b"), 10, true) // that node's user 1
	take(user(2, ""), 10, true)
	take(user(3, ""), 6, false) // all together have 20
	take(user(3, ""), 5, true)
	for range 3 {
		take(Caller{}, 1000, true)
	}
	first()
	first()
	take(user(1, ""), 9, false)
	take(user(1, ""), 8, true)
	take(user(4, ""), 1, false)
}

func TestShareWaitsUntilAnotherIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, user := NewShare(1, 4), Caller{UID: 1}
		give, ok := s.Await(t.Context(), user, 1)
		if !ok {
			t.Fatal("the first waits")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, ok := s.Await(ctx, user, 1); ok {
			t.Error("two at a time")
		}
		time.AfterFunc(time.Second, give)
		again, ok := s.Await(t.Context(), user, 1)
		if !ok {
			t.Fatal("the second waits for ever")
		}
		again()
		if len(s.held) > 0 || s.sum[false] != 0 {
			t.Errorf("left: %v, %v", s.held, s.sum)
		}
	})
}
