package progress

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
)

// Progress tells how a move, checkpoint or restore gets on, and keeps the times
// of its phases.
type Progress struct {
	mu     sync.Mutex
	to     *listener
	began  time.Time
	now    api.Event
	since  time.Time
	phases map[api.Phase]time.Duration
	spans  []api.Span
	rounds []api.Round
	sent   map[api.Phase]int64 // on the wire when the phase began
	Keep   *Recorder           // of a move; nil for others
	sizes  func(*api.Event)
	stop   chan struct{}
	done   sync.WaitGroup
}

// tellEvery is how often progress is told within a phase.
const tellEvery = 100 * time.Millisecond

// New begins an account that is told to out; sizes, which may be nil, fills in
// the counters. It must be ended.
func New(out io.Writer, id job.ID, move string, sizes func(*api.Event)) *Progress {
	t := &Progress{to: newListener(out), began: time.Now(), phases: map[api.Phase]time.Duration{}, sent: map[api.Phase]int64{}, sizes: sizes, stop: make(chan struct{})}
	t.now = api.Event{Job: id, Move: move}
	t.done.Go(t.beat)
	return t
}

func (t *Progress) beat() {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.mu.Lock()
			if t.now.Phase != "" {
				t.to.mention(t.event(""))
			}
			t.mu.Unlock()
		}
	}
}

// Enter says that a phase begins, and with it that the one before is over.
func (t *Progress) Enter(p api.Phase, note string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.close()
	t.now.Phase, t.now.Note, t.since = p, note, time.Now()
	t.spans = append(t.spans, api.Span{Phase: p, Began: t.since})
	e := t.event("")
	t.to.tell(e)
	t.sent[p] = e.Sent
	if t.Keep != nil && t.Keep.due(p) {
		t.Keep.beside(t.record())
	}
}

// Round tells of a warm-up round that has ended.
func (t *Progress) Round(r api.Round) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rounds = append(t.rounds, r)
	t.now.Round = &r
	t.to.tell(t.event(r.Reason))
	t.now.Round = nil
}

func (t *Progress) close() {
	if t.now.Phase != "" {
		took := time.Since(t.since)
		t.phases[t.now.Phase] += took
		t.spans[len(t.spans)-1].Took = took
	}
}

// event is how it stands, with a note, "" for that of the phase.
func (t *Progress) event(note string) api.Event {
	e := t.now
	e.At, e.Note = time.Now(), cmp.Or(note, e.Note)
	if t.sizes != nil {
		t.sizes(&e)
	}
	return e
}

// Know changes what sizes looks at.
func (t *Progress) Know(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
}

// End tells the last event: the result, or the error. A move's record is on the
// disk by then, and free has been called: whoever hears the end may begin anew.
func (t *Progress) End(res *api.Result, err error, free ...func()) {
	close(t.stop)
	t.done.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.close()
	e := t.now
	e.At, e.Note = time.Now(), ""
	if t.sizes != nil {
		t.sizes(&e)
	}
	if err != nil {
		e.Error = httpjson.ErrorOf(err)
	} else {
		res.Took, res.Phases = time.Since(t.began), maps.Clone(t.phases)
		res.Read, res.Sent, res.Pulled, res.Rounds = e.Read, e.Sent, e.Pulled, t.rounds
		e.Done = res
	}
	if t.Keep != nil {
		t.Keep.end(t.record(), e.Done, e.Error)
	}
	for _, f := range free {
		f()
	}
	t.to.end(e)
}

// record is the account as it stands; the caller holds its lock.
func (t *Progress) record() api.MoveRecord {
	r := t.Keep.Begin
	r.Took, r.State = time.Since(t.began), api.MoveUnderWay
	r.Phases, r.Rounds = slices.Clone(t.spans), slices.Clone(t.rounds)
	for _, s := range r.Phases {
		switch s.Phase {
		case api.PhaseFreeze:
			r.Frozen = s.Began
		case api.PhaseResume:
			r.Resumed = s.Began
		}
	}
	var e api.Event
	if t.sizes != nil {
		t.sizes(&e)
	}
	r.Read, r.Sent = e.Read, e.Sent
	if end, ok := t.sent[api.PhaseCommit]; ok {
		r.Residue = end - t.sent[api.PhaseFreeze]
	}
	if t.Keep.Describe != nil {
		t.Keep.Describe(&r)
	}
	if !r.Frozen.IsZero() && !r.Resumed.IsZero() {
		r.Downtime = r.Resumed.Sub(r.Frozen)
	}
	return r
}
