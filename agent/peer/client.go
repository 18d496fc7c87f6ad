package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// IdleTime is how long a connection without a request may stay open.
const IdleTime = 2 * time.Minute

// Messages of two agents about a move, on the control connection of a session. The source asks,
// the target answers; yield goes both ways.
//
//	offer    → accept | refuse     before anything is touched
//	prepare  → prepared            everything has been sent; restore and park
//	commit   → running
//	abort    → aborted
//	recheck  → accept | refuse     files that the job has opened or locked since the offer
//	outcome  → state               what does your journal say?
//	why      → nothing             did receiving fail? the answer is the error
//	yield    → yielded             an operator took the job here: end what you have of it; both ways
//	pull     → want… complete      which memory is missing? see pull.go
const (
	SayOffer    = "offer"
	SayAccept   = "accept"
	SayRefuse   = "refuse"
	SayPrepare  = "prepare"
	SayPrepared = "prepared"
	SayCommit   = "commit"
	SayRunning  = "running"
	SayAbort    = "abort"
	SayAborted  = "aborted"
	SayOutcome  = "outcome"
	SayState    = "state"
	SayWhy      = "why"
	SayNothing  = "nothing"
	SayYield    = "yield"
	SayYielded  = "yielded"
	SayPull     = "pull"
	SayWant     = "want"
	SayLost     = "lost"
	SayComplete = "complete"
	SayRecheck  = "recheck"
)

// FeatureIdentity says that the images hold the source's record of the credentials of the job's
// threads.
const FeatureIdentity = "identity"

// FeatureNested says that this side takes jobs with mount and network namespaces inside their own.
const FeatureNested = "nested-namespaces"

// Offer is what a target must know to accept or refuse a job.
type Offer struct {
	Move   handoff.MoveID  `json:"move"`
	Epoch  int64           `json:"epoch"`
	Record job.Record      `json:"record"`
	Port   int             `json:"port"` // of the source's agent, to be asked at
	Needs  preflight.Needs `json:"needs"`
}

// Refusal answers an offer with the findings that stand in the way.
type Refusal struct {
	Findings []api.Finding `json:"findings"`
}

// PrepareRequest asks the target to restore the job and park it.
type PrepareRequest struct {
	Move   handoff.MoveID `json:"move"`
	Record job.Record     `json:"record"` // as of the freeze
	// Pull says that memory which was not sent is pulled: its lack is no reason to fail.
	Pull bool `json:"pull,omitempty"`
	// Within is how long the restore may take once all memory is there, by the source's forecast.
	Within time.Duration `json:"within,omitempty"`
}

// MoveRef names the move that a message is about.
type MoveRef struct {
	Move handoff.MoveID `json:"move"`
}

// StateReply is the state of a move in the answering node's journal.
type StateReply struct {
	State handoff.State `json:"state"`
	// InDoubt says that the node cannot leave the state by itself.
	InDoubt bool `json:"in_doubt,omitempty"`
}

// Ask sends a message and waits for the answer, of kind want, which it decodes into into, unless
// that is nil. The peer's refusals and errors come back as errors.
func Ask(ctx context.Context, s *transport.Session, kind string, body any, want string, into any) error {
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
	if answer.Type == SayRefuse {
		var r Refusal
		if err := answer.Decode(&r); err != nil {
			return err
		}
		return Refused(r.Findings)
	}
	if answer.Type != want {
		return fmt.Errorf("%s answers %q to %q", s.Peer(), answer.Type, kind)
	}
	if into == nil {
		return nil
	}
	return answer.Decode(into)
}

// Refused is the error of a move that preflight refused.
func Refused(findings []api.Finding) error {
	return &api.Error{Code: api.CodeRefused, Message: "preflight refused the move", Findings: findings,
		Hint: "remove what stands in the way above, then `migrate move` again; nothing was touched"}
}

// Client is the other node's half of a move: handoff.Peer. It uses the session that the move
// began with as long as that lasts, and then a new one for each message.
type Client struct {
	Local       *node.Node
	Node        string
	Addr        string
	Move        handoff.MoveID
	Session     *transport.Session    // nil: none, or broken
	PrepareBody func() PrepareRequest // of Prepare
	Sending     func() PendingSend    // memory that is still being sent
	OnRunning   func()                // called when the target says that the job runs; may be nil
}

// PendingSend is memory of the job that goes to the target beside the messages.
type PendingSend interface {
	Ended() <-chan struct{} // closed when nothing more is sent; nil if nothing was ever begun
	Failed() error          // why it failed, nil if all was sent; once Ended is closed
}

// Prepare waits until the target says that the job is parked. A broken connection can take a
// minute to show, and the job would be frozen all that time. So Prepare meanwhile polls the
// target's state over new connections.
func (c *Client) Prepare(ctx context.Context) error {
	if c.Session == nil {
		return errors.New("the connection to the target is gone")
	}
	answered := make(chan error, 1)
	go func() { answered <- Ask(ctx, c.Session, SayPrepare, c.PrepareBody(), SayPrepared, nil) }()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	sent := c.Sending().Ended()
	for missed := 0; ; {
		select {
		case err := <-answered:
			if err != nil && !IsAnswer(err) {
				c.abandon()
			}
			return err
		case <-sent:
			if err := c.Sending().Failed(); err != nil {
				return c.fail(answered, err)
			}
			sent = nil
			continue
		case <-tick.C:
		}
		state, err := c.pollState(ctx)
		switch {
		case err == nil && state == handoff.StateReceiving:
			missed = 0
			continue
		case err != nil && missed < maxMissedPolls:
			missed++
			continue
		}
		c.abandon() // its answer, if there is one, is lost
		<-answered
		if err == nil && state != handoff.StatePrepared {
			err = fmt.Errorf("the move is %s there", state)
		}
		return err
	}
}

// fail ends Prepare because the job's memory does not get through. The target notices that, too,
// and its answer may say why.
func (c *Client) fail(answered <-chan error, err error) error {
	select {
	case why := <-answered:
		if IsAnswer(why) {
			return why
		}
	case <-time.After(whyTime):
		c.abandon()
		<-answered
	}
	return err
}

const (
	pollEvery      = 3 * time.Second
	maxMissedPolls = 2
)

// pollState asks for the state of the move over a connection of its own, within pollEvery.
func (c *Client) pollState(ctx context.Context) (handoff.State, error) {
	ctx, cancel := context.WithTimeout(ctx, pollEvery)
	defer cancel()
	s, err := transport.Dial(ctx, c.Addr, c.Node, c.Local.Identity, 0)
	if err != nil {
		return "", err
	}
	defer s.Close()
	var st StateReply
	err = Ask(ctx, s, SayOutcome, MoveRef{c.Move}, SayState, &st)
	return st.State, err
}

// abandon closes a session on which an answer is outstanding: the next message must not wait for
// that one.
func (c *Client) abandon() {
	_ = c.Session.Abandon() // a commit on its way must not arrive after a decision against it
	c.Session = nil
}

// Why asks a target that has closed the data connections for the reason. It uses a connection of
// its own: an answer may be outstanding on the other one. Without a reason it returns nil.
func (c *Client) Why(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, whyTime)
	defer cancel()
	s, err := transport.Dial(ctx, c.Addr, c.Node, c.Local.Identity, 0)
	if err != nil {
		return nil
	}
	defer s.Close()
	if err := Ask(ctx, s, SayWhy, MoveRef{c.Move}, SayNothing, nil); IsAnswer(err) {
		return fmt.Errorf("%s says: %w", c.Node, err)
	}
	return nil
}

const whyTime = 3 * time.Second

// Commit returns nil when the job runs on the target.
func (c *Client) Commit(ctx context.Context) error {
	err := c.call(ctx, SayCommit, SayRunning, nil)
	if err == nil && c.OnRunning != nil {
		c.OnRunning()
	}
	return err
}

// Abort has the target drop its copy.
func (c *Client) Abort(ctx context.Context) error {
	return c.call(ctx, SayAbort, SayAborted, nil)
}

// Yield has the other node end what it has of the job.
func (c *Client) Yield(ctx context.Context) error {
	return c.call(ctx, SayYield, SayYielded, nil)
}

// Outcome is the state of the move in the other node's journal.
func (c *Client) Outcome(ctx context.Context) (handoff.State, error) {
	var st StateReply
	err := c.call(ctx, SayOutcome, SayState, &st)
	return st.State, err
}

func (c *Client) call(ctx context.Context, kind, want string, into any) error {
	ref := MoveRef{c.Move}
	if c.Session != nil {
		err := Ask(ctx, c.Session, kind, ref, want, into)
		if err == nil || IsAnswer(err) {
			return fromPeer(err)
		}
		c.abandon()
	}
	s, err := transport.Dial(ctx, c.Addr, c.Node, c.Local.Identity, 0)
	if err != nil {
		return err
	}
	err = Ask(ctx, s, kind, ref, want, into)
	if err != nil && !IsAnswer(err) {
		_ = s.Abandon()
	}
	_ = s.Close() // the answer is here
	return fromPeer(err)
}

// Codes on the wire for errors of package handoff.
const (
	CodeUnknownMove = "unknown-move"
	CodeTaken       = "taken"
)

// fromPeer wraps the error of package handoff that the code of a peer's error stands for.
func fromPeer(err error) error {
	var remote *transport.Error
	if !errors.As(err, &remote) {
		return err
	}
	switch remote.Code {
	case CodeUnknownMove:
		return fmt.Errorf("%w: %w", handoff.ErrUnknownMove, err)
	case CodeTaken:
		return fmt.Errorf("%w: %w", handoff.ErrTaken, err)
	}
	return err
}

// IsAnswer tells an error that the peer has sent from one of the connection.
func IsAnswer(err error) bool {
	var remote *transport.Error
	return errors.As(err, &remote)
}

// AddrOf is the host:port of a node's agent: explicit, configured, or the node's name and
// DefaultPort.
func (p *Peers) AddrOf(node, explicit string) string {
	if explicit != "" {
		return explicit
	}
	if addr, ok := p.Config.Peers[node]; ok {
		return addr
	}
	return net.JoinHostPort(node, strconv.Itoa(DefaultPort))
}

// DefaultPort is the TCP port of agents for each other.
const DefaultPort = 7707

// ListenPort is the port at which peers can call this agent.
func (p *Peers) ListenPort() int {
	_, port, err := net.SplitHostPort(p.Config.Listen)
	if err != nil {
		return DefaultPort
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return DefaultPort
	}
	return n
}

// PublicAddr is the host:port at which peers can call this agent, "" if it listens on all
// addresses: peers then use their own configuration.
func (p *Peers) PublicAddr() string {
	host, _, err := net.SplitHostPort(p.Config.Listen)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		return ""
	}
	return p.Config.Listen
}

// CallbackAddr is the host:port of the agent at the other end of a session, "" if unknown.
func CallbackAddr(s *transport.Session, port int) string {
	host, _, err := net.SplitHostPort(s.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// Pauses between two tries to reach a peer: the first, and the longest.
const (
	FirstRetry   = time.Second
	LongestRetry = time.Minute
)

// YieldTime is how long the other node may take to end its copy.
const YieldTime = time.Minute

// FetchState asks the other node for the state of the move, over a connection of its own.
func (c *Client) FetchState(ctx context.Context) (st StateReply, err error) {
	s, err := transport.Dial(ctx, c.Addr, c.Node, c.Local.Identity, 0)
	if err != nil {
		return st, err
	}
	defer s.Close()
	return st, Ask(ctx, s, SayOutcome, MoveRef{c.Move}, SayState, &st)
}
