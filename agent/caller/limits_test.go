package caller

import (
	"testing"
)

func TestSharesAreOfUsersOfAllAndNotOfRoot(t *testing.T) {
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
