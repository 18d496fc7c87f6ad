package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/migrate-hpc/migrate/logkey"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// onCut is for a session that ended while its move was not finished.
func (a *Arrivals) onCut(ctx context.Context, arr *Arrival) error {
	if arr.half.State().Finished() {
		return nil
	}
	return arr.half.Cut(ctx, arr.source)
}

// finish goes on with a move that has failed half way on this node, as after a restart.
func (a *Arrivals) finish(half *handoff.TargetHalf, source handoff.Asker) error {
	if half.State().Finished() {
		return nil
	}
	return half.Recover(a.Life, source)
}

func (a *Arrivals) finishLater(arr *Arrival) {
	a.Background.Go(func() {
		a.Recovery.insist("a move waits", arr.half.Record().Move, func() error { return a.finish(arr.half, arr.source) })
	})
}

func (a *Arrivals) ClientOf(rec handoff.Record) *peer.Client {
	return &peer.Client{Local: a.Node, Node: rec.Peer, Addr: rec.PeerAddr, Move: rec.Move}
}

// consider decides about an offer. A refusal has touched nothing but what the same source has given
// up before.
func (a *Arrivals) consider(ctx context.Context, s *transport.Session, m transport.Message) (*Arrival, transport.Message, error) {
	var o peer.Offer
	if err := m.Decode(&o); err != nil {
		return nil, transport.Message{}, err
	}
	if err := CheckOffer(o); err != nil {
		return nil, transport.Message{}, err
	}
	findings, err := a.examineOffer(ctx, s.Peer(), o)
	if err != nil {
		return nil, transport.Message{}, err
	}
	taken, err := a.ReserveIDs(o.Move, o.Record)
	if err != nil {
		return nil, transport.Message{}, err
	}
	if findings = append(findings, taken...); len(findings) > 0 {
		a.IDs.Release(string(o.Move))
		answer, err := transport.NewMessage(peer.SayRefuse, peer.Refusal{Findings: source.AsFindings(findings)})
		return nil, answer, err
	}
	if err := a.Copies.EndOlderCopy(ctx, s.Peer(), peer.CallbackAddr(s, o.Port), o); err != nil {
		a.IDs.Release(string(o.Move))
		return nil, transport.Message{}, err
	}
	arr, err := a.begin(ctx, s, o)
	if err != nil {
		if a.ArrivalOf(o.Move) == nil { // else until that is finished
			a.IDs.Release(string(o.Move))
		}
		return nil, transport.Message{}, err
	}
	cpus, err := affinity.Of(0)
	if err != nil {
		a.Log.Warn("processors of this node", logkey.Err, err) // the shim looks at those of the copy
	}
	answer, err := transport.NewMessage(peer.SayAccept, peer.Acceptance{CPUs: cpus})
	return arr, answer, err
}

func CheckOffer(o peer.Offer) error {
	if _, err := handoff.ParseMoveID(string(o.Move)); err != nil {
		return err
	}
	if _, err := job.ParseID(string(o.Record.ID)); err != nil {
		return err
	}
	if o.Port < 1 || o.Port > 65535 {
		return fmt.Errorf("port %d", o.Port)
	}
	return o.Record.Validate()
}

// examineOffer first ends what this node still has of earlier moves of the job from that source: else
// a move that is tried again at once would meet its own predecessor.
func (a *Arrivals) examineOffer(ctx context.Context, from string, o peer.Offer) ([]preflight.Finding, error) {
	a.settleEarlier(ctx, from, o.Record.ID)
	return a.examine(ctx, o.Needs, o.Record)
}

// examineRestore is examine for a checkpoint of a job that runs here.
func (a *Arrivals) examineRestore(ctx context.Context, needs preflight.Needs, rec job.Record) ([]preflight.Finding, error) {
	node, err := a.Launcher.PreflightNode()
	if err != nil {
		return nil, err
	}
	return preflight.CheckRestore(ctx, needs, rec, node)
}

func (a *Arrivals) examine(ctx context.Context, needs preflight.Needs, rec job.Record) ([]preflight.Finding, error) {
	node, err := a.Launcher.PreflightNode()
	if err != nil {
		return nil, err
	}
	findings, err := preflight.CheckNode(ctx, needs, rec, node)
	if err == nil && len(findings) == 0 { // what is missing has been told
		findings = append(launch.UnreachableFindings(rec.Spec), a.Launcher.QuotaFindings(rec)...)
	}
	return findings, err
}

// begin admits the move and starts to receive.
func (a *Arrivals) begin(ctx context.Context, s *transport.Session, o peer.Offer) (*Arrival, error) {
	l := target.NewJob(a.Targets, string(o.Move), o.Record.ID)
	l.Offered = &o.Record
	l.Recorded = slices.Contains(s.Features(), peer.FeatureIdentity)
	rec := handoff.Record{Move: o.Move, Kind: handoff.KindMove, Job: string(o.Record.ID), Peer: s.Peer(), PeerAddr: peer.CallbackAddr(s, o.Port), Epoch: o.Epoch, BootID: a.Boot,
		Since: a.EarliestArrival(o.Record)}
	if err := a.CheckArrival(o.Record); err != nil {
		return nil, err
	}
	arr := &Arrival{landing: l, half: a.engine().NewTarget(rec, l), source: a.ClientOf(rec)}
	if err := arr.half.Begin(ctx); err != nil {
		return nil, err
	}
	err := l.Open()
	if err == nil {
		err = l.ClaimAddress(o.Record)
	}
	if err != nil {
		if err = errors.Join(err, arr.half.Abort(ctx)); !arr.half.State().Finished() {
			a.know(arr)
			a.finishLater(arr)
		}
		return nil, err
	}
	l.Receiver.OutputLimit = o.Record.Spec.OutputLimit
	if _, err := l.StartShim(ctx, o.Record); err != nil {
		a.Log.Info("room for a job is made later", logkey.Job, l.ID, logkey.Move, o.Move, logkey.Err, err)
	}
	l.Receive(ctx, s.Data())
	a.know(arr)
	return arr, nil
}

// know has others find an arrival, until it is finished.
func (a *Arrivals) know(arr *Arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.underWay[arr.half.Record().Move] = arr
}

// settleTime is how long an offer waits for an earlier move to be sorted out.
const settleTime = 8 * time.Second

// settleEarlier ends earlier moves of a job that the same source offers again: it has given them up,
// which this node need not have heard yet.
func (a *Arrivals) settleEarlier(ctx context.Context, from string, id job.ID) {
	a.mu.Lock()
	var earlier []*Arrival
	for _, arr := range a.underWay {
		if arr.landing.ID == id && arr.half.Record().Peer == from {
			earlier = append(earlier, arr)
		}
	}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, arr := range earlier {
		if err := a.onCut(ctx, arr); err != nil {
			a.Log.Error("an earlier move of the job waits", logkey.Move, arr.half.Record().Move, logkey.Err, err)
		}
	}
}

// engine performs the moves of this node.
func (a *Arrivals) engine() handoff.Engine {
	return handoff.Engine{Journal: a.Journal, Fence: a.Fence, Boot: a.Boot, Observe: a.observe}
}

// observe is told each record of a move once it is on the disk.
func (a *Arrivals) observe(rec handoff.Record) {
	a.Log.Info("move", logkey.Job, rec.Job, logkey.Move, rec.Move, logkey.Kind, rec.Kind, logkey.Peer, rec.Peer, logkey.Role, rec.Role, logkey.Epoch, rec.Epoch, logkey.State, rec.State)
	if rec.State.Finished() {
		a.forget(rec.Move)
	}
}

func (a *Arrivals) forget(m handoff.MoveID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.underWay, m)
	a.IDs.Release(string(m))
}

func (a *Arrivals) ArrivalOf(m handoff.MoveID) *Arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.underWay[m]
}
