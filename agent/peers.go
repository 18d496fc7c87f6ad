package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

// peerPath is where agents ask each other whose a job is. A question needs the certificate
// of a node of the cluster, and speaks for no user.
const peerPath = "/v1/peer/jobs"

type grantRequest struct {
	Epoch int64 `json:"epoch"`
	Seen  int64 `json:"seen"` // what the asked node has said that it has seen
	Port  int   `json:"port"` // of the asking agent
}

type supersededRequest struct {
	Epoch int64 `json:"epoch"`
	Port  int   `json:"port"`
}

type supersededReply struct {
	// Next is where the copy of the asked node has gone.
	Next *handoff.Place `json:"next,omitempty"`
	// Epoch is that of the copy which the asked node has, or had, if it is not for it to end.
	Epoch int64 `json:"epoch,omitempty"`
}

type newsRequest struct {
	Runs map[job.ID]int64 `json:"runs,omitempty"` // jobs that run on the asking node, with their epochs
	Left []job.ID         `json:"left,omitempty"` // jobs that have gone from there
}

type newsReply struct {
	Superseded map[job.ID]int64 `json:"superseded,omitempty"` // the epoch of a copy here that supersedes
	// Owed are restores past the asking node, which it has not heard of: the newest of each job.
	Owed  map[job.ID]int64 `json:"owed,omitempty"`
	Fates map[job.ID]fate  `json:"fates,omitempty"`
}

// fate is how a job stands with the node that it went to. State is "" where it is not known.
type fate struct {
	State api.JobState `json:"state,omitempty"`
	Exit  *job.Exit    `json:"exit,omitempty"`
	Moved *job.Moved   `json:"moved,omitempty"`
}

// peerQuestion answers a node that asks in its own name.
type peerQuestion func(r *http.Request, peer string) (any, error)

func (a *Agent) peerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", a.routes(peerCaller))
	for pattern, answer := range map[string]peerQuestion{
		"GET " + peerPath + "/{job}":             a.answerStanding,
		"POST " + peerPath + "/{job}/grant":      a.answerGrant,
		"POST " + peerPath + "/{job}/superseded": a.answerSuperseded,
		"POST " + peerPath:                       a.answerNews,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			peer, err := transport.PeerOf(r)
			if err != nil {
				replyError(w, &api.Error{Code: api.CodeForbidden, Message: err.Error()})
				return
			}
			body, err := answer(r, peer)
			if err != nil {
				replyError(w, err)
				return
			}
			_ = reply(w, body)
		})
	}
	return mux
}

// callerAddr is where the agent of a node that asks listens.
func callerAddr(r *http.Request, port int) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || port < 1 || port > 65535 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// addrsOf are the addresses at which a node may be: the operator's word comes first, what records and
// claims say next. Whatever an address leads to must prove that it is the node.
func (a *Agent) addrsOf(node string, hints []string) []string {
	addrs := slices.Insert(slices.Clone(hints), 0, a.cfg.Peers[node])
	if a.cfg.Peers[node] == "" {
		addrs = append(addrs, a.peerAddr(node, ""))
	}
	var once []string
	for _, addr := range addrs {
		if addr != "" && !slices.Contains(once, addr) {
			once = append(once, addr)
		}
	}
	return once
}

// question asks a node at one of its addresses; without a body it is a GET.
func (a *Agent) question(ctx context.Context, node string, addrs []string, path string, body, into any) error {
	var all error
	for _, addr := range a.addrsOf(node, addrs) {
		err := a.questionAt(ctx, handoff.Place{Node: node, Addr: addr}, path, body, into)
		if err == nil || errors.Is(err, handoff.ErrAnswers) {
			return err
		}
		all = errors.Join(all, err)
	}
	return all
}

func (a *Agent) questionAt(ctx context.Context, at handoff.Place, path string, body, into any) error {
	method, data := http.MethodGet, []byte(nil)
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
		method = http.MethodPost
	}
	t := transport.HTTPTransport(at.Addr, at.Node, a.id)
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+at.Node+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := io.LimitReader(resp.Body, maxBody)
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(answer).Decode(into)
	}
	var told api.Error
	if err := json.NewDecoder(answer).Decode(&told); err == nil && told.Message != "" {
		return fmt.Errorf("%w: %w", handoff.ErrAnswers, &told)
	}
	if resp.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%w: its agent is of version %s, which knows no such question; update it to that of this node, %s", handoff.ErrAnswers, a.versionOf(ctx, at), a.cfg.Version)
	}
	return fmt.Errorf("%w: %s", handoff.ErrAnswers, resp.Status)
}

// versionOf is what a node's agent says of itself, for a message.
func (a *Agent) versionOf(ctx context.Context, at handoff.Place) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var n api.Node
	if _, err := a.get(ctx, "/v1/node", job.Moved{Node: at.Node, Addr: at.Addr}, caller{}, 0, &n); err != nil || n.Version == "" {
		return "unknown"
	}
	return n.Version
}
