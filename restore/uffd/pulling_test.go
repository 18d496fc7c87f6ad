package uffd

import (
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

// pulling starts one registered task whose memory is absent altogether, and which
// CRIU has let go.
func pulling(t *testing.T, pages int) (*scene, *remote) {
	t.Helper()
	s := newScene(t)
	r := s.lacking(7, pages)
	s.await()
	r.do("register 0 %d", pages)
	r.do("send 7")
	return s, r
}

// await serves a store of which nothing is there yet.
func (s *scene) await() {
	s.t.Helper()
	s.server.AllowIncomplete()
	s.serve(2)
	if err := s.server.EndPush(true); err != nil {
		s.t.Fatal(err)
	}
}

// lacking starts a task with so many pages, none of them in the store.
func (s *scene) lacking(vpid stream.VPID, pages int) *remote {
	s.t.Helper()
	r := startTask(s.t, s.conn, pages)
	s.regions[vpid] = append(s.regions[vpid], image.Region{Addr: r.page(0), Pages: int64(pages), Lazy: true})
	return r
}

// deliver brings pages as the source would: by where they were at the freeze.
func (s *scene) deliver(r *remote, vpid stream.VPID, from, pages int) {
	s.t.Helper()
	run := stream.Run{VPID: vpid, Addr: r.page(from), Pages: int64(pages), Data: fill(pages, uint64(from)<<16)}
	if err := s.server.Deliver([]stream.Run{run}); err != nil {
		s.t.Error(err)
	}
}

func (s *scene) deliverZero(r *remote, vpid stream.VPID, from, pages int) {
	s.t.Helper()
	if err := s.server.Deliver([]stream.Run{{VPID: vpid, Addr: r.page(from), Pages: int64(pages), Zero: true}}); err != nil {
		s.t.Error(err)
	}
}

// waits checks that the task does not answer.
func (r *remote) waits() (answer chan string) {
	r.t.Helper()
	answer = make(chan string, 1)
	go func() { answer <- r.line() }()
	select {
	case got := <-answer:
		r.t.Fatalf("the task went on without its page: %s", got)
	case <-time.After(50 * time.Millisecond):
	}
	return answer
}

func wantAnswer(t *testing.T, answer chan string) {
	t.Helper()
	select {
	case got := <-answer:
		if got != "ok" {
			t.Fatalf("task: %s", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("the task still waits")
	}
}
