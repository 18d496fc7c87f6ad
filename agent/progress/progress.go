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

// Progress sends events about a move, checkpoint or restore, and keeps the times of its phases.
type Progress struct {
	mu       sync.Mutex
	listener *listener
	began    time.Time
	now      api.Event
	since    time.Time
	phases   map[api.Phase]time.Duration
	spans    []api.Span
	rounds   []api.Round
	sent     map[api.Phase]int64 // bytes on the wire when the phase began
	Recorder *Recorder           // of a move; nil for other operations
	sizes    func(*api.Event)
	stop     chan struct{}
	done     sync.WaitGroup
}

// tickEvery is how often an event is sent within a phase.
const tickEvery = 100 * time.Millisecond

// New begins to write events to out, as JSON lines. sizes, which may be nil, fills in the counters.
// End must be called.
func New(out io.Writer, id job.ID, move string, sizes func(*api.Event)) *Progress {
	t := &Progress{listener: newListener(out), began: time.Now(), phases: map[api.Phase]time.Duration{}, sent: map[api.Phase]int64{}, sizes: sizes, stop: make(chan struct{})}
	t.now = api.Event{Job: id, Move: move}
	t.done.Go(t.sendTicks)
	return t
}

func (p *Progress) sendTicks() {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.mu.Lock()
			if p.now.Phase != "" {
				p.listener.sendOptional(p.event(""))
			}
			p.mu.Unlock()
		}
	}
}

// Enter begins a phase, which ends the one before. On a nil Progress it does nothing.
func (p *Progress) Enter(phase api.Phase, note string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
	p.now.Phase, p.now.Note, p.since = phase, note, time.Now()
	p.spans = append(p.spans, api.Span{Phase: phase, Began: p.since})
	e := p.event("")
	p.listener.send(e)
	p.sent[phase] = e.Sent
	if p.Recorder != nil && p.Recorder.savesAt(phase) {
		p.Recorder.saveAsync(p.record())
	}
}

// Round sends the event of a warm-up round that has ended.
func (p *Progress) Round(r api.Round) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rounds = append(p.rounds, r)
	p.now.Round = &r
	p.listener.send(p.event(r.Reason))
	p.now.Round = nil
}

func (p *Progress) close() {
	if p.now.Phase != "" {
		took := time.Since(p.since)
		p.phases[p.now.Phase] += took
		p.spans[len(p.spans)-1].Took = took
	}
}

// event is an event of now, with a note, "" for that of the phase.
func (p *Progress) event(note string) api.Event {
	e := p.now
	e.At, e.Note = time.Now(), cmp.Or(note, e.Note)
	if p.sizes != nil {
		p.sizes(&e)
	}
	return e
}

// Update runs change, which changes what sizes reads, without an event in between.
func (p *Progress) Update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// End sends the last event: the result, or the error. Before that it writes a move's record and
// calls free, so that a user who reads the end can begin the next operation.
func (p *Progress) End(res *api.Result, err error, free ...func()) {
	close(p.stop)
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
	e := p.now
	e.At, e.Note = time.Now(), ""
	if p.sizes != nil {
		p.sizes(&e)
	}
	if err != nil {
		e.Error = httpjson.ErrorOf(err)
	} else {
		res.Took, res.Phases = time.Since(p.began), maps.Clone(p.phases)
		res.Read, res.Sent, res.Pulled, res.Rounds = e.Read, e.Sent, e.Pulled, p.rounds
		e.Done = res
	}
	if p.Recorder != nil {
		p.Recorder.end(p.record(), e.Done, e.Error)
	}
	for _, f := range free {
		f()
	}
	p.listener.end(e)
}

// record is the record of the move as of now; the caller holds the lock.
func (p *Progress) record() api.MoveRecord {
	r := p.Recorder.Initial
	r.Took, r.State = time.Since(p.began), api.MoveUnderWay
	r.Phases, r.Rounds = slices.Clone(p.spans), slices.Clone(p.rounds)
	for _, s := range r.Phases {
		switch s.Phase {
		case api.PhaseFreeze:
			r.Frozen = s.Began
		case api.PhaseResume:
			r.Resumed = s.Began
		}
	}
	var e api.Event
	if p.sizes != nil {
		p.sizes(&e)
	}
	r.Read, r.Sent = e.Read, e.Sent
	if end, ok := p.sent[api.PhaseCommit]; ok {
		r.Residue = end - p.sent[api.PhaseFreeze]
	}
	if p.Recorder.Describe != nil {
		p.Recorder.Describe(&r)
	}
	if !r.Frozen.IsZero() && !r.Resumed.IsZero() {
		r.Downtime = r.Resumed.Sub(r.Frozen)
	}
	return r
}
