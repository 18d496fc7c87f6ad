package agent

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/humanize"
	"github.com/migrate-hpc/migrate/job"
)

// What one user may have the agent hold at a time, and all users of this node together;
// users of other nodes have as much again. Root is not counted.
const (
	maxBody     = 64 << 10 // bytes of a request's body; api.MaxCommandBody where a command is in it
	maxHeader   = 16 << 10 // bytes of a local request's head
	userBodies  = 8 << 20  // bytes of bodies whose requests are not answered
	allBodies   = 8 * userBodies
	userLooks   = 2 // requests that look at all jobs or moves, or at all of one job
	allLooks    = 8 * userLooks
	userVisits  = 64 // commands inside of jobs
	allVisits   = 16 * userVisits
	lookTime    = 10 * time.Second // that a look waits for others of its user
	hearingTime = 30 * time.Second // that a caller has to take an answer
)

// share is what callers have of something that all need.
type share struct {
	user, all int64 // most of one user, and of all

	mu   sync.Mutex
	held map[holder]int64
	sum  map[bool]int64 // by whether a node asks
	free chan struct{}  // closed when something is given back; nil: nobody waits
}

// holder is a user as one node knows them.
type holder struct {
	peer string
	uid  uint32
}

func newShare(user, all int64) *share {
	return &share{user: user, all: all, held: map[holder]int64{}, sum: map[bool]int64{}}
}

// take gives the caller n, if there is so much left. give must be called then; a second
// call changes nothing.
func (s *share) take(c caller, n int64) (give func(), ok bool) {
	if c.root() || n == 0 {
		return func() {}, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	give, _ = s.tryLocked(c, n)
	return give, give != nil
}

func (s *share) tryLocked(c caller, n int64) (give func(), free <-chan struct{}) {
	who, peer := holder{c.peer, c.uid}, c.peer != ""
	if s.held[who]+n > s.user || s.sum[peer]+n > s.all {
		if s.free == nil {
			s.free = make(chan struct{})
		}
		return nil, s.free
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
		if s.free != nil {
			close(s.free)
			s.free = nil
		}
	}), nil
}

// await is take that waits as long as ctx allows.
func (s *share) await(ctx context.Context, c caller, n int64) (give func(), ok bool) {
	if c.root() {
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

func busy(format string, args ...any) error {
	return &api.Error{Code: api.CodeBusy, Message: fmt.Sprintf(format, args...), Where: "nothing was done", Hint: "the same command again, when others of yours have ended"}
}

// admitBody sets aside what the body of a request takes, before a byte of it is read.
func (a *Agent) admitBody(w http.ResponseWriter, r *http.Request, c caller, most int64) (give func(), err error) {
	if r.ContentLength > most {
		w.Header().Set("Connection", "close") // nobody reads the rest
		return nil, &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("the request has %s, above the %s that it may have", humanize.Size(r.ContentLength), humanize.Size(most)),
			Where: "nothing was done", Hint: "put long lists into a file, or start it with a short environment: `env -i migrate run …`"}
	}
	n := r.ContentLength
	if n < 0 {
		n = most
	}
	give, ok := a.bodies.take(c, n)
	if !ok {
		w.Header().Set("Connection", "close")
		return nil, busy("requests that are not answered yet hold as much of the agent's memory as one user, or all, may have (%s, %s)", humanize.Size(userBodies), humanize.Size(allBodies))
	}
	r.Body = http.MaxBytesReader(w, r.Body, most)
	return give, nil
}

// look waits for the caller's turn to have much read.
func (a *Agent) look(ctx context.Context, c caller) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	done, ok := a.looks.await(ctx, c, 1)
	if !ok {
		return nil, busy("%d requests of yours are being answered, and this one has waited %v for them", userLooks, lookTime)
	}
	return done, nil
}

// looking is a request whose answer may be large, one of few at a time.
func (a *Agent) looking(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller) error {
		done, err := a.look(r.Context(), c)
		if err != nil {
			return err
		}
		defer done()
		return h(w, r, c)
	}
}

// lookingAt is the same for a request about a job.
func (a *Agent) lookingAt(h jobHandler) jobHandler {
	return func(w http.ResponseWriter, r *http.Request, c caller, rec job.Record) error {
		return a.looking(func(w http.ResponseWriter, r *http.Request, c caller) error { return h(w, r, c, rec) })(w, r, c)
	}
}
