package handoff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Place is a node, and where its agent may listen.
type Place struct {
	Node string `json:"node"`
	Addr string `json:"addr,omitempty"` // host:port; a hint
}

// Answer is what a node knows of a job that is to be restored.
type Answer struct {
	Node  string `json:"node"`
	Seen  int64  `json:"seen"`  // the highest epoch that it has admitted or granted
	Epoch int64  `json:"epoch"` // the highest that it knows of, that of its record too
	// Alive says how the job runs there, or can come to run there; "" says that it cannot.
	Alive string `json:"alive,omitempty"`
	// Next are the nodes that know more: where the job went, who was granted to bring it back.
	Next []Place `json:"next,omitempty"`
}

// Witnesses are the nodes that may know of a job, this one included.
type Witnesses interface {
	// Ask asks a node; addrs are where its agent may listen. An error leaves the question open; it
	// wraps ErrAnswers if the node is there, and cannot tell.
	Ask(ctx context.Context, node string, addrs []string) (Answer, error)
	// Grant asks a node to let g.Node bring the job back; seen is what it has said to have seen. When
	// it returns nil the node has a durable record of it.
	Grant(ctx context.Context, node string, addrs []string, seen int64, g Grant) error
}

// Inquiry asks every node that may know whether a job lives. It is what stands between a checkpoint
// and a second copy: see doc.go.
type Inquiry struct {
	w     Witnesses
	addrs map[string][]string
	dead  map[string]bool

	answers map[string]Answer
	silent  map[string]error
	named   map[string]bool // by an answer
}

// mostAsked bounds the nodes that are asked about one job.
const mostAsked = 256

// ErrTooMany says that a job, or the claims of it, name more nodes than can be asked.
var ErrTooMany = fmt.Errorf("more than %d nodes would have to be asked", mostAsked)

// ErrAnswers says that a node is there, but cannot tell. No operator can declare it dead.
var ErrAnswers = errors.New("it answers, but cannot tell")

// AliveError says that the job lives.
type AliveError struct{ Answer Answer }

func (e *AliveError) Error() string { return fmt.Sprintf("it is alive: %s", e.Answer.Alive) }

// SilentError has the nodes that cannot be asked, with the reasons.
type SilentError struct{ Nodes map[string]error }

func (e *SilentError) Error() string {
	var all []string
	for _, node := range slices.Sorted(maps.Keys(e.Nodes)) {
		all = append(all, fmt.Sprintf("%s: %v", node, e.Nodes[node]))
	}
	return strings.Join(all, "; ")
}

// Inquire asks the nodes at start, all that they name, and so on, at most once each. It fails with an
// *AliveError if the job lives anywhere, with a *SilentError if a node cannot be asked. Nodes in dead
// may be silent. If one of them is, all bystanders must answer as well: only the silent node may have
// known where the job went. Otherwise answers of bystanders count, and their silence does not: a node
// with a damaged disk may have forgotten where the job went, and they may know.
func Inquire(ctx context.Context, w Witnesses, start, bystanders []Place, dead []string) (*Inquiry, error) {
	q := &Inquiry{w: w, addrs: map[string][]string{}, dead: map[string]bool{}, answers: map[string]Answer{}, silent: map[string]error{}, named: map[string]bool{}}
	for _, node := range dead {
		q.dead[node] = true
	}
	if err := q.ask(ctx, start); err != nil {
		return nil, err
	}
	if err := q.verdict(); err != nil {
		return nil, err
	}
	ask := q.ask
	if len(q.silent) == 0 {
		ask = q.askOptional
	}
	if err := ask(ctx, bystanders); err != nil {
		return nil, err
	}
	return q, q.verdict()
}

// askOptional asks nodes that no answer has named. Silent ones are left out.
func (q *Inquiry) askOptional(ctx context.Context, bystanders []Place) error {
	fresh := slices.DeleteFunc(slices.Clone(bystanders), func(p Place) bool { _, met := q.addrs[p.Node]; return met })
	err := q.ask(ctx, fresh)
	for _, p := range fresh {
		if _, silent := q.silent[p.Node]; silent && !q.named[p.Node] {
			delete(q.silent, p.Node)
			delete(q.addrs, p.Node)
		}
	}
	return err
}

// ask asks nodes that were not asked yet, until no answer names another one.
func (q *Inquiry) ask(ctx context.Context, next []Place) error {
	for len(next) > 0 {
		fresh := q.addPlaces(next)
		if len(q.answers)+len(q.silent)+len(fresh) > mostAsked {
			return ErrTooMany
		}
		next = nil
		for node, answer := range q.askAll(ctx, fresh) {
			if answer.err != nil {
				q.silent[node] = answer.err
				continue
			}
			q.answers[node] = answer.Answer
			next = append(next, answer.Next...)
			for _, p := range answer.Next {
				q.named[p.Node] = true
			}
		}
	}
	return context.Cause(ctx)
}

// addPlaces learns addresses, and returns the nodes to ask: new ones, and silent ones with a new
// address.
func (q *Inquiry) addPlaces(places []Place) (fresh []string) {
	for _, p := range places {
		known, met := q.addrs[p.Node]
		news := !met || p.Addr != "" && !slices.Contains(known, p.Addr)
		if !news {
			continue
		}
		if p.Addr != "" {
			known = append(known, p.Addr)
		}
		q.addrs[p.Node] = known
		if _, told := q.answers[p.Node]; !told && !slices.Contains(fresh, p.Node) {
			delete(q.silent, p.Node)
			fresh = append(fresh, p.Node)
		}
	}
	return fresh
}

type askResult struct {
	Answer
	err error
}

func (q *Inquiry) askAll(ctx context.Context, nodes []string) map[string]askResult {
	answers := map[string]askResult{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, node := range nodes {
		addrs := slices.Clone(q.addrs[node])
		all.Go(func() {
			s, err := q.w.Ask(ctx, node, addrs)
			mu.Lock()
			defer mu.Unlock()
			answers[node] = askResult{s, err}
		})
	}
	all.Wait()
	return answers
}

// verdict is what the answers say so far. That the job lives comes first: it is the better reason.
func (q *Inquiry) verdict() error {
	for _, node := range slices.Sorted(maps.Keys(q.answers)) {
		if s := q.answers[node]; s.Alive != "" {
			return &AliveError{s}
		}
	}
	missing := maps.Clone(q.silent)
	maps.DeleteFunc(missing, func(node string, err error) bool { return q.dead[node] && !errors.Is(err, ErrAnswers) })
	if len(missing) > 0 {
		return &SilentError{missing}
	}
	return nil
}

// Dead are the nodes that were not asked, on the operator's word.
func (q *Inquiry) Dead() map[string]string {
	nodes := map[string]string{}
	for node := range q.silent {
		nodes[node] = ""
		if addrs := q.addrs[node]; len(addrs) > 0 {
			nodes[node] = addrs[0]
		}
	}
	return nodes
}

// StillSilent asks the dead once more, after the debt to them is on the disk. A node that is back by
// now may have asked before that, and knows nothing of this restore.
func (q *Inquiry) StillSilent(ctx context.Context) error {
	for node, answer := range q.askAll(ctx, slices.Collect(maps.Keys(q.silent))) {
		if answer.err == nil || errors.Is(answer.err, ErrAnswers) {
			return fmt.Errorf("%s is not dead: it answers", node)
		}
	}
	return context.Cause(ctx)
}

// Seen is the epoch in the answer of a node, 0 if it was not asked.
func (q *Inquiry) Seen(node string) int64 { return q.answers[node].Seen }

// Epoch is the epoch of the restore: above all in the answers, and in a new line if a silent node
// leaves it open whether the job lives.
func (q *Inquiry) Epoch(floor int64) int64 {
	for _, s := range q.answers {
		floor = max(floor, s.Epoch, s.Seen)
	}
	if len(q.silent) > 0 {
		return NextLine(floor)
	}
	return floor + 1
}

// Grant asks all nodes of the inquiry but g.Node to let g.Node restore the job. It asks in the order of
// their names, so that one of several restores at a time gets all grants. When it fails, some nodes
// may have granted: the next inquiry hears of that, and asks g.Node.
func (q *Inquiry) Grant(ctx context.Context, g Grant) error {
	for _, node := range slices.Sorted(maps.Keys(q.answers)) {
		if node == g.Node {
			continue
		}
		if err := q.w.Grant(ctx, node, q.addrs[node], q.answers[node].Seen, g); err != nil {
			return fmt.Errorf("%s does not let this node bring the job back: %w", node, err)
		}
	}
	return context.Cause(ctx)
}

// ErrRival says that another restore of the job is under way, or was since the inquiry.
var ErrRival = errors.New("somebody else is bringing this job back")
