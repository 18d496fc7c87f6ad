package uffd

import (
	"errors"
	"testing"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// taken is a task that has pages before its memory is registered. What it has read is the kernel's
// page of zeros.
func taken(t *testing.T, where string) *scene {
	t.Helper()
	s := newScene(t)
	r := s.task(7, 300)
	s.serve(1)
	r.do(where)
	r.do("register 0 300")
	r.do("send 7")
	r.do("right 0 1") // the server has the task now
	return s
}

func TestAPageThatIsThereBeforeItWasBroughtIsFoundWhileTheJobIsParked(t *testing.T) {
	s := taken(t, "zero 200 1")
	if err := s.server.Fill(); !errors.Is(err, ErrAlreadyMapped) {
		t.Errorf("Fill: %v", err)
	}
}

func TestAPageThatIsThereBeforeItWasBroughtIsNotTakenForBrought(t *testing.T) {
	s := taken(t, "zero 200 1")
	s.finish()
	if err := s.wait(); !errors.Is(err, ErrAlreadyMapped) {
		t.Errorf("Serve: %v", err)
	}
}

func TestAPageThatTheJobDoesNotLackMayBeThere(t *testing.T) {
	s := newScene(t)
	r := startTask(t, s.conn, 400)
	s.put(r, 7, 0, 300)
	s.serve(1)
	r.do("zero 300 100")
	r.do("register 0 400")
	r.do("send 7")
	r.do("right 0 1")
	s.fill()
	s.finish()
	s.wantDone()
}

func TestRangesThatAreCloseAreLookedThroughAtOnce(t *testing.T) {
	at := func(start, end uint64) pageset.Span { return pageset.Span{Start: start, End: end} }
	got := closeRanges([]pageset.Span{at(stream.PageSize, 2*stream.PageSize), at(5*stream.PageSize, 6*stream.PageSize), at(1<<40, 1<<40+stream.PageSize)})
	if len(got) != 2 || got[0] != (pageset.Range{Start: stream.PageSize, End: 6 * stream.PageSize}) || got[1] != (pageset.Range{Start: 1 << 40, End: 1<<40 + stream.PageSize}) {
		t.Errorf("%#x", got)
	}
}
