package scan

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

// levels are the priorities at which memory is looked at.
type levels struct {
	mu   sync.Mutex
	seen map[int]bool
}

func (l *levels) count(int64) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // of the calling thread
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		raw = -1
	}
	l.seen[20-raw] = true
}

func (l *levels) are(t *testing.T, what string, want int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := slices.Sorted(maps.Keys(l.seen)); !slices.Equal(got, []int{want}) {
		t.Errorf("%s: nice %v, want %d", what, got, want)
	}
	clear(l.seen)
}

// giveWay: on a busy node a thread takes turns, once it has given way.
func (l *levels) giveWay(t *testing.T, what string, to int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seen[to] {
		t.Errorf("%s: nice %v, never %d", what, slices.Sorted(maps.Keys(l.seen)), to)
	}
	clear(l.seen)
}

func TestOnlyRoundsThatHaveTimeGiveWay(t *testing.T) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, s := launch(t, "plain"), newScene(t, 2)
	l := &levels{seen: map[int]bool{}}
	s.Count = l.count
	r := s.warm(t, p.members(t))
	l.giveWay(t, "a round", max(osthread.Polite, 20-raw))
	if r.Waiting < 0 || r.Waiting > r.Took || r.Reading <= 0 || r.Scanning <= 0 || r.Scanning > 2*r.Reading {
		t.Errorf("round %+v", r)
	}
	s.FullSpeed = true
	s.warm(t, p.members(t))
	l.are(t, "a round in a hurry", 20-raw)
	s.finish(t, p.stop(t))
	l.are(t, "after the freeze", 20-raw)
}
