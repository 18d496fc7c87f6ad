package transfer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/progress"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

// moveOp is one attempt to move a job away from here.
type moveOp struct {
	a    *Transfers
	rec  job.Record
	req  api.MoveRequest
	id   handoff.MoveID
	addr string
	tell *progress.Progress
	give func() // the turn, to the next in the queue
	// since: see handoff.Record.
	since time.Time
	dep   *source.Job
	sess  *transport.Session
	// copyOnWrite is memory that the job's processes share, in bytes.
	copyOnWrite int64
	mode        api.Mode
	// place is where threads go that are bound to processors.
	place affinity.Placement
}

func (m *moveOp) sizes(e *api.Event) {
	e.LowPriority = e.Phase == api.PhaseWarmup && m.a.Priority.Yields()
	if m.dep != nil {
		e.Read, e.Total, e.Pulled = m.dep.Read.Load(), m.dep.Total, m.dep.Pulled.Load()
	}
	if m.sess != nil {
		e.Sent = m.sess.Sent()
	}
	if m.dep != nil {
		e.Sent += m.dep.PullSent.Load()
	}
}

func (m *moveOp) recorder() *progress.Recorder {
	return &progress.Recorder{Store: m.a.Records, Describe: m.describe, Initial: api.MoveRecord{Move: string(m.id), Job: m.rec.ID, Name: m.rec.Spec.Name, UID: m.rec.Spec.UID,
		From: m.a.Config.Node, To: m.req.Node, Epoch: m.rec.Epoch, Options: m.req.MoveOptions, Began: time.Now()}}
}

// unshared says what the move does to memory that processes share by copy-on-write, if
// it is enough for a word.
func (m *moveOp) unshared() string {
	if m.req.Eager || m.copyOnWrite < 1<<20 || m.copyOnWrite < m.dep.Total/20 {
		return ""
	}
	return fmt.Sprintf("%d MiB that processes share by copy-on-write become separate copies; --eager keeps them shared", m.copyOnWrite>>20)
}

// changes says what the move changes of the job, if it is enough for a word.
func (m *moveOp) changes() string {
	return strings.Join(slices.DeleteFunc([]string{m.unshared(), m.bound()}, func(s string) bool { return s == "" }), "; ")
}

// bound says what becomes of threads that are bound to processors, "" if there are none.
func (m *moveOp) bound() string {
	if m.sess == nil || m.place.Bound.Empty() {
		return ""
	}
	if !m.targetBinds() {
		return fmt.Sprintf("threads bound to processors %.80s may run on all there: the migrate of %s is older and does not bind them", m.place.Bound, m.req.Node)
	}
	return m.place.String()
}

func (m *moveOp) targetBinds() bool { return slices.Contains(m.sess.Features(), peer.FeatureThreads) }

// describe adds to the move's record what the progress does not know.
func (m *moveOp) describe(r *api.MoveRecord) {
	r.Epoch, r.Mode = m.rec.Epoch, m.mode
	if m.dep == nil {
		return
	}
	r.Affinity = m.bound()
	r.Memory, r.CopyOnWrite, r.Lanes, r.Pulled = m.dep.Total, m.copyOnWrite, len(m.dep.Out), m.dep.Pulled.Load()
	if !m.dep.Thawed.IsZero() {
		r.Resumed = m.dep.Thawed
	}
}

// peer is the target's half of this move.
func (m *moveOp) peer() *peer.Client {
	return &peer.Client{Local: m.a.Node, Node: m.req.Node, Addr: m.addr, Move: m.id, Session: m.sess, Sending: func() peer.PendingSend { return m.dep.Sending },
		PrepareBody: func() peer.PrepareRequest {
			return peer.PrepareRequest{Move: m.id, Record: m.dep.RecordAtFreeze(), Pull: m.dep.PostCopy, Within: m.dep.StepTime()}
		}}
}
