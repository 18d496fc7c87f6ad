package caller

import (
	"context"
	"fmt"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
)

// Share is what callers have of something that all need.
type Share struct {
	user, all int64 // most of one user, and of all

	Mu   sync.Mutex
	Held map[Holder]int64
	Sum  map[bool]int64 // by whether a node asks
	free chan struct{}  // closed when something is given back; nil: nobody waits
}

// Holder is a user as one node knows them.
type Holder struct {
	peer string
	UID  uint32
}

func NewShare(user, all int64) *Share {
	return &Share{user: user, all: all, Held: map[Holder]int64{}, Sum: map[bool]int64{}}
}

// Take gives the caller n, if there is so much left. give must be called then; a second
// call changes nothing.
func (s *Share) Take(c Caller, n int64) (give func(), ok bool) {
	if c.Root() || n == 0 {
		return func() {}, true
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	give, _ = s.tryLocked(c, n)
	return give, give != nil
}

func (s *Share) tryLocked(c Caller, n int64) (give func(), free <-chan struct{}) {
	who, peer := Holder{c.Peer, c.UID}, c.Peer != ""
	if s.Held[who]+n > s.user || s.Sum[peer]+n > s.all {
		if s.free == nil {
			s.free = make(chan struct{})
		}
		return nil, s.free
	}
	s.Held[who] += n
	s.Sum[peer] += n
	return sync.OnceFunc(func() {
		s.Mu.Lock()
		defer s.Mu.Unlock()
		s.Sum[peer] -= n
		if s.Held[who] -= n; s.Held[who] == 0 {
			delete(s.Held, who)
		}
		if s.free != nil {
			close(s.free)
			s.free = nil
		}
	}), nil
}

// Await is take that waits as long as ctx allows.
func (s *Share) Await(ctx context.Context, c Caller, n int64) (give func(), ok bool) {
	if c.Root() {
		return func() {}, true
	}
	for {
		s.Mu.Lock()
		give, free := s.tryLocked(c, n)
		s.Mu.Unlock()
		if give != nil {
			return give, true
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, false
		}
	}
}

func Busy(format string, args ...any) error {
	return &api.Error{Code: api.CodeBusy, Message: fmt.Sprintf(format, args...), Where: "nothing was done", Hint: "the same command again, when others of yours have ended"}
}
