package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/transport"
)

// maxAnswer bounds the answer of another node, in bytes.
const maxAnswer = 8 << 20

// AskMove asks another node for its record of a move, on behalf of the caller. hops is how often the
// question was forwarded so far.
func (p *Peers) AskMove(ctx context.Context, m handoff.MoveID, at job.Moved, c caller.Caller, hops int) (r api.MoveRecord, err error) {
	ctx, cancel := context.WithTimeout(ctx, httpjson.PeerTimeout)
	defer cancel()
	if _, err = p.get(ctx, "/v1/moves/"+string(m), at, c, hops+1, &r); err == nil && r.Move != string(m) {
		err = fmt.Errorf("%s answers about another move", at.Node)
	}
	return r, err
}

// get asks another node's API on behalf of the caller.
func (p *Peers) get(ctx context.Context, path string, at job.Moved, c caller.Caller, hops int, into any) (status int, err error) {
	t := transport.HTTPTransport(p.AddrOf(at.Node, at.Addr), at.Node, p.Identity)
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+at.Node+path, nil)
	if err != nil {
		return 0, err
	}
	c.SetHeaders(req.Header)
	req.Header.Set(caller.HopsHeader, strconv.Itoa(hops))
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, fmt.Errorf("%s answers %s", at.Node, resp.Status)
	}
	return resp.StatusCode, exactjson.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into)
}

// JobPathByID is the path of a request with the job's id in place of its name: on the other node
// another job may have the name.
func JobPathByID(r *http.Request, id job.ID) string {
	path := "/v1/jobs/" + string(id)
	if rest := len("/v1/jobs/") + len(r.PathValue("job")); rest < len(r.URL.Path) {
		path += r.URL.Path[rest:]
	}
	return path
}

// PeerPath is the path of questions between agents about a job. A question needs the certificate
// of a node of the cluster, and speaks for no user.
const PeerPath = "/v1/peer/jobs"

// GrantRequest asks a node to let the asking one restore a job under Epoch.
type GrantRequest struct {
	Epoch int64 `json:"epoch"`
	Seen  int64 `json:"seen"` // what the asked node has said that it has seen
	Port  int   `json:"port"` // of the asking agent
}

// SupersededRequest tells a node that the asking one has restored a job under Epoch.
type SupersededRequest struct {
	Epoch int64 `json:"epoch"`
	Port  int   `json:"port"`
}

// SupersededReply says what became of the copy on the asked node; it is empty once that has ended.
type SupersededReply struct {
	// Next is where the copy of the asked node has gone.
	Next *handoff.Place `json:"next,omitempty"`
	// Epoch is that of the copy of the asked node, if it does not have to end.
	Epoch int64 `json:"epoch,omitempty"`
}

// NewsRequest asks a peer for what it knows of jobs of the asking node.
type NewsRequest struct {
	Runs map[job.ID]int64 `json:"runs,omitempty"` // jobs that run on the asking node, with their epochs
	Left []job.ID         `json:"left,omitempty"` // jobs that have gone from there
}

// NewsReply answers a NewsRequest.
type NewsReply struct {
	Superseded map[job.ID]int64 `json:"superseded,omitempty"` // the epoch of a copy here that supersedes
	// Owed are restores that declared the asking node dead, and of which it has not heard: the epoch of
	// the newest, by job.
	Owed  map[job.ID]int64 `json:"owed,omitempty"`
	Fates map[job.ID]Fate  `json:"fates,omitempty"`
}

// Fate is the state of a job on the node that it went to; State is "" if unknown.
type Fate struct {
	State api.JobState `json:"state,omitempty"`
	Exit  *job.Exit    `json:"exit,omitempty"`
	Moved *job.Moved   `json:"moved,omitempty"`
	Epoch int64        `json:"epoch,omitempty"` // of its record there; agents of earlier versions do not tell
}

// QuestionHandler answers a node that asks in its own name.
type QuestionHandler func(r *http.Request, peer string) (any, error)

// CallerAddr is the host:port of the agent of an asking node, "" for a port out of range.
func CallerAddr(r *http.Request, port int) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || port < 1 || port > 65535 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// addrsOf are the addresses at which a node may be: the configured one first, then those of records
// and claims. What answers there must prove with its certificate that it is the node.
func (p *Peers) addrsOf(node string, hints []string) []string {
	addrs := slices.Insert(slices.Clone(hints), 0, p.Config.Peers[node])
	if p.Config.Peers[node] == "" {
		addrs = append(addrs, p.AddrOf(node, ""))
	}
	var once []string
	for _, addr := range addrs {
		if addr != "" && !slices.Contains(once, addr) {
			once = append(once, addr)
		}
	}
	return once
}

// Question asks a node at its addresses, one after the other, and decodes the answer into into. A nil
// body makes it a GET. An error wraps handoff.ErrAnswers if the node answered.
func (p *Peers) Question(ctx context.Context, node string, addrs []string, path string, body, into any) error {
	var all error
	for _, addr := range p.addrsOf(node, addrs) {
		err := p.questionAt(ctx, handoff.Place{Node: node, Addr: addr}, path, body, into)
		if err == nil || errors.Is(err, handoff.ErrAnswers) {
			return err
		}
		all = errors.Join(all, err)
	}
	return all
}

func (p *Peers) questionAt(ctx context.Context, at handoff.Place, path string, body, into any) error {
	method, data := http.MethodGet, []byte(nil)
	if body != nil {
		var err error
		if data, err = exactjson.Marshal(body); err != nil {
			return err
		}
		method = http.MethodPost
	}
	t := transport.HTTPTransport(at.Addr, at.Node, p.Identity)
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
	answer := io.LimitReader(resp.Body, httpjson.MaxBody)
	if resp.StatusCode == http.StatusOK {
		return exactjson.NewDecoder(answer).Decode(into)
	}
	var remote api.Error
	if err := exactjson.NewDecoder(answer).Decode(&remote); err == nil && remote.Message != "" {
		return fmt.Errorf("%w: %w", handoff.ErrAnswers, &remote)
	}
	if resp.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%w: its agent is of version %s, which knows no such question; update it to that of this node, %s", handoff.ErrAnswers, p.versionOf(ctx, at), p.Config.Version)
	}
	return fmt.Errorf("%w: %s", handoff.ErrAnswers, resp.Status)
}

// versionOf is the version of a node's agent, for an error message.
func (p *Peers) versionOf(ctx context.Context, at handoff.Place) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var n api.Node
	if _, err := p.get(ctx, "/v1/node", job.Moved{Node: at.Node, Addr: at.Addr}, caller.Caller{}, 0, &n); err != nil || n.Version == "" {
		return "unknown"
	}
	return n.Version
}
