package caller

import (
	"context"
	"fmt"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
)

// Share counts how much each caller has of something that all need.
type Share struct {
	user, all int64 // most of one user, and of all

	mu    sync.Mutex
	held  map[holder]int64
	sum   map[bool]int64 // by whether a node asks
	freed chan struct{}  // closed when something is given back; nil without a waiting caller
}

// holder is a user as one node knows them.
type holder struct {
	peer string
	uid  uint32
}

// NewShare lets one user have at most user, and all of them together at most all. Local callers and
// those of peers are counted apart.
func NewShare(user, all int64) *Share {
	return &Share{user: user, all: all, held: map[holder]int64{}, sum: map[bool]int64{}}
}

// Take gives the caller n, if so much is left. give must then be called; a second call changes
// nothing. Root always gets n and is not counted.
func (s *Share) Take(c Caller, n int64) (give func(), ok bool) {
	if c.Root() || n == 0 {
		return func() {}, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	give, _ = s.tryLocked(c, n)
	return give, give != nil
}

func (s *Share) tryLocked(c Caller, n int64) (give func(), free <-chan struct{}) {
	who, peer := holder{c.Peer, c.UID}, c.Peer != ""
	if s.held[who]+n > s.user || s.sum[peer]+n > s.all {
		if s.freed == nil {
			s.freed = make(chan struct{})
		}
		return nil, s.freed
	}
	s.held[who] += n
	s.sum[peer] += n
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sum[peer] -= n
		if s.held[who] -= n; s.held[who] == 0 {
			delete(s.held, who)
		}
		if s.freed != nil {
			close(s.freed)
			s.freed = nil
		}
	}), nil
}

// Await is Take that waits as long as ctx allows.
func (s *Share) Await(ctx context.Context, c Caller, n int64) (give func(), ok bool) {
	if c.Root() {
		return func() {}, true
	}
	for {
		s.mu.Lock()
		give, free := s.tryLocked(c, n)
		s.mu.Unlock()
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

// Busy is the refusal of a request for which a Share has nothing left.
func Busy(format string, args ...any) error {
	return &api.Error{Code: api.CodeBusy, Message: fmt.Sprintf(format, args...), Where: "nothing was done", Hint: "the same command again, when others of yours have ended"}
}
