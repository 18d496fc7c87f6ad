package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// What two agents say to each other about a move, on the control connection of a
// session. The source asks, the target answers; the last one goes both ways.
//
//	offer    → accept | refuse     before anything is touched
//	prepare  → prepared            everything has been sent; restore and park
//	commit   → running
//	abort    → aborted
//	outcome  → state               what does your journal say?
//	why      → nothing             did receiving fail? the answer is the error
//	yield    → yielded             an operator took the job here: end what you have of it; both ways
//	pull     → want… complete      which memory is missing? see pull.go
const (
	sayOffer    = "offer"
	sayAccept   = "accept"
	sayRefuse   = "refuse"
	sayPrepare  = "prepare"
	sayPrepared = "prepared"
	sayCommit   = "commit"
	sayRunning  = "running"
	sayAbort    = "abort"
	sayAborted  = "aborted"
	sayOutcome  = "outcome"
	sayState    = "state"
	sayWhy      = "why"
	sayNothing  = "nothing"
	sayYield    = "yield"
	sayYielded  = "yielded"
	sayPull     = "pull"
	sayWant     = "want"
	sayLost     = "lost"
	sayComplete = "complete"
)

// featureIdentity says that the images hold the source's record of who the job's threads are.
const featureIdentity = "identity"

// offer is what a target must know to say yes or no.
type offer struct {
	Move   handoff.MoveID  `json:"move"`
	Epoch  int64           `json:"epoch"`
	Record job.Record      `json:"record"`
	Port   int             `json:"port"` // of the source's agent, to be asked at
	Needs  preflight.Needs `json:"needs"`
}

type refusal struct {
	Findings []api.Finding `json:"findings"`
}

type prepareRequest struct {
	Move   handoff.MoveID `json:"move"`
	Record job.Record     `json:"record"` // as it is at the freeze
	// Pull says that memory which was not sent is pulled: its lack is no reason to fail.
	Pull bool `json:"pull,omitempty"`
}

type moveRef struct {
	Move handoff.MoveID `json:"move"`
}

type stateReply struct {
	State handoff.State `json:"state"`
	// InDoubt says that this node can do nothing about the state by itself.
	InDoubt bool `json:"in_doubt,omitempty"`
}

// ask sends one message and waits for the one that answers it.
func ask(ctx context.Context, s *transport.Session, kind string, body any, want string, into any) error {
	m, err := transport.NewMessage(kind, body)
	if err != nil {
		return err
	}
	if err := s.Send(m); err != nil {
		return err
	}
	answer, err := s.RecvContext(ctx)
	if err != nil {
		return err
	}
	if answer.Type == sayRefuse {
		var r refusal
		if err := answer.Decode(&r); err != nil {
			return err
		}
		return refused(r.Findings)
	}
	if answer.Type != want {
		return fmt.Errorf("%s answers %q to %q", s.Peer(), answer.Type, kind)
	}
	if into == nil {
		return nil
	}
	return answer.Decode(into)
}

func refused(findings []api.Finding) error {
	return &api.Error{Code: api.CodeRefused, Message: "preflight refused the move", Findings: findings,
		Hint: "remove what stands in the way above, then `migrate move` again; nothing was touched"}
}

// remote is the other node's half of a move. It uses the session that the move
// began with as long as that lasts, and a new one for each word after that.
type remote struct {
	a       *Agent
	node    string
	addr    string
	move    handoff.MoveID
	session *transport.Session // nil: none, or broken
	prepare func() prepareRequest
	sending func() delivery // what is under way besides
	ran     func()          // told when the target says that the job runs; may be nil
}

// delivery is the job's memory on its way to the target.
type delivery interface {
	Ended() <-chan struct{} // closed when nothing more is sent; nil if nothing was ever begun
	Failed() error          // why it ended too early, once Ended is closed
}

// Prepare waits for the target's word that the job is parked. A broken connection
// can take a minute to show, during which the job would stand still for nothing;
// so while the answer is awaited the target is asked over new ones how it is
// getting on.
func (r *remote) Prepare(ctx context.Context) error {
	if r.session == nil {
		return errors.New("the connection to the target is gone")
	}
	answered := make(chan error, 1)
	go func() { answered <- ask(ctx, r.session, sayPrepare, r.prepare(), sayPrepared, nil) }()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	sent := r.sending().Ended()
	for missed := 0; ; {
		select {
		case err := <-answered:
			if err != nil && !isAnswer(err) {
				r.hangUp()
			}
			return err
		case <-sent:
			if err := r.sending().Failed(); err != nil {
				return r.giveUp(answered, err)
			}
			sent = nil
			continue
		case <-tick.C:
		}
		state, err := r.askAnew(ctx)
		switch {
		case err == nil && state == handoff.StateReceiving:
			missed = 0
			continue
		case err != nil && missed < mayMiss:
			missed++
			continue
		}
		r.hangUp() // its answer, if there is one, is lost
		<-answered
		if err == nil && state != handoff.StatePrepared {
			err = fmt.Errorf("the move is %s there", state)
		}
		return err
	}
}

// giveUp ends Prepare because the job's memory does not get through. The target finds
// that out as well, and its answer may say why.
func (r *remote) giveUp(answered <-chan error, err error) error {
	select {
	case why := <-answered:
		if isAnswer(why) {
			return why
		}
	case <-time.After(whyTime):
		r.hangUp()
		<-answered
	}
	return err
}

const (
	askEvery = 3 * time.Second
	mayMiss  = 2
)

// askAnew asks for the state of the move over a connection of its own.
func (r *remote) askAnew(ctx context.Context) (handoff.State, error) {
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	s, err := transport.Dial(ctx, r.addr, r.node, r.a.id, 0)
	if err != nil {
		return "", err
	}
	defer s.Close()
	var st stateReply
	err = ask(ctx, s, sayOutcome, moveRef{r.move}, sayState, &st)
	return st.State, err
}

// hangUp gives a session up whose answer is still to come or never will: the next
// word must not wait behind it.
func (r *remote) hangUp() {
	_ = r.session.Abandon() // a commit that is under way must not arrive when it is no longer meant
	r.session = nil
}

// why asks a target that hung up on the data what was wrong with it, over a connection
// of its own: an answer may be awaited on the other one.
func (r *remote) why(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, whyTime)
	defer cancel()
	s, err := transport.Dial(ctx, r.addr, r.node, r.a.id, 0)
	if err != nil {
		return nil
	}
	defer s.Close()
	if err := ask(ctx, s, sayWhy, moveRef{r.move}, sayNothing, nil); isAnswer(err) {
		return fmt.Errorf("%s says: %w", r.node, err)
	}
	return nil
}

const whyTime = 3 * time.Second

func (r *remote) Commit(ctx context.Context) error {
	err := r.say(ctx, sayCommit, sayRunning, nil)
	if err == nil && r.ran != nil {
		r.ran()
	}
	return err
}

func (r *remote) Abort(ctx context.Context) error {
	return r.say(ctx, sayAbort, sayAborted, nil)
}

func (r *remote) Yield(ctx context.Context) error {
	return r.say(ctx, sayYield, sayYielded, nil)
}

func (r *remote) Outcome(ctx context.Context) (handoff.State, error) {
	var st stateReply
	err := r.say(ctx, sayOutcome, sayState, &st)
	return st.State, err
}

func (r *remote) say(ctx context.Context, kind, want string, into any) error {
	ref := moveRef{r.move}
	if r.session != nil {
		err := ask(ctx, r.session, kind, ref, want, into)
		if err == nil || isAnswer(err) {
			return fromPeer(err)
		}
		r.hangUp()
	}
	s, err := transport.Dial(ctx, r.addr, r.node, r.a.id, 0)
	if err != nil {
		return err
	}
	err = ask(ctx, s, kind, ref, want, into)
	if err != nil && !isAnswer(err) {
		_ = s.Abandon()
	}
	_ = s.Close() // all that mattered was said
	return fromPeer(err)
}

// Codes that cross the wire for errors of package handoff that the peer branches on.
const (
	codeUnknownMove = "unknown-move"
	codeTaken       = "taken"
)

// fromPeer gives an error that the peer told us the meaning that it had there.
func fromPeer(err error) error {
	var told *transport.Error
	if !errors.As(err, &told) {
		return err
	}
	switch told.Code {
	case codeUnknownMove:
		return fmt.Errorf("%w: %w", handoff.ErrUnknownMove, err)
	case codeTaken:
		return fmt.Errorf("%w: %w", handoff.ErrTaken, err)
	}
	return err
}

// isAnswer tells an error that the peer told us from one of the connection.
func isAnswer(err error) bool {
	var told *transport.Error
	return errors.As(err, &told)
}

// peerAddr finds where a node's agent listens.
func (a *Agent) peerAddr(node, explicit string) string {
	if explicit != "" {
		return explicit
	}
	if addr, ok := a.cfg.Peers[node]; ok {
		return addr
	}
	return net.JoinHostPort(node, strconv.Itoa(DefaultPort))
}

// DefaultPort is where agents listen for each other.
const DefaultPort = 7707

// listenPort is the port of this agent, for peers to call back at.
func (a *Agent) listenPort() int {
	_, port, err := net.SplitHostPort(a.cfg.Listen)
	if err != nil {
		return DefaultPort
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return DefaultPort
	}
	return n
}

// publicAddr is where others can call this agent, as far as it knows itself: ""
// leaves it to them to know the node.
func (a *Agent) publicAddr() string {
	host, _, err := net.SplitHostPort(a.cfg.Listen)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		return ""
	}
	return a.cfg.Listen
}

// backAddr is where the node at the other end of a session can be called.
func backAddr(s *transport.Session, port int) string {
	host, _, err := net.SplitHostPort(s.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
