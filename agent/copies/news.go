package copies

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
)

// newsEvery is how often an agent asks its peers about its jobs, from its start on. It asks a peer
// that is back no later than this.
const newsEvery = 30 * time.Second

// ListenForNews asks the peers, again and again until ctx ends, what they know of jobs that run here,
// and of the state of those that went to them.
func (c *Copies) ListenForNews(ctx context.Context) {
	tick := time.NewTicker(newsEvery)
	defer tick.Stop()
	for {
		c.AskNews(ctx)
		c.endSupersededAgain(ctx)
		recs, _ := c.Jobs.List() // those that can be read
		c.Fates(ctx, recs, httpjson.PeerTimeout)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// AskNews asks all configured peers whether jobs that run here were restored elsewhere.
func (c *Copies) AskNews(ctx context.Context) {
	var all sync.WaitGroup
	for node := range c.Config.Peers {
		all.Go(func() { c.AskNewsOf(ctx, node) })
	}
	all.Wait()
}

// CatchUp asks the peers that this node has not heard since it went down: a caller waits for that.
func (c *Copies) CatchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	var all sync.WaitGroup
	for _, node := range c.Fence.Unheard() {
		all.Go(func() { c.AskNewsOf(ctx, node) })
	}
	all.Wait()
}

// catchUpTime leaves the asking node time for the answer.
const catchUpTime = httpjson.PeerTimeout / 2

// AskNewsOf asks one peer for news, and ends copies that it supersedes.
func (c *Copies) AskNewsOf(ctx context.Context, node string) {
	recs, _ := c.Jobs.List() // those that can be read
	req := peer.NewsRequest{Runs: map[job.ID]int64{}}
	for _, rec := range recs {
		if rec.Here() {
			req.Runs[rec.ID] = rec.Epoch
		}
	}
	unheard := slices.Contains(c.Fence.Unheard(), node)
	if len(req.Runs) == 0 && !unheard {
		return
	}
	var news peer.NewsReply
	asking, cancel := context.WithTimeout(ctx, httpjson.PeerTimeout)
	err := c.Peers.Question(asking, node, nil, peer.PeerPath, req, &news)
	cancel()
	if err != nil {
		return // it is away, and will be asked again
	}
	if unheard {
		if err = c.learnOwed(node, news.Owed); err != nil {
			c.Log.Error("what a peer has brought back is not written down", logkey.Peer, node, logkey.Err, err)
		}
	}
	for id, epoch := range news.Superseded {
		if _, asked := req.Runs[id]; !asked {
			continue
		}
		by := job.Moved{Node: node, Addr: c.Config.Peers[node], Epoch: epoch, At: time.Now()}
		if err := c.supersede(ctx, id, by); err != nil && ctx.Err() == nil {
			c.Log.Warn("a copy of a job that was brought back elsewhere is not ended yet", logkey.Job, id, logkey.Peer, node, logkey.Err, err)
		}
	}
}

// learnOwed notes the restores of a peer while this node was down.
func (c *Copies) learnOwed(node string, owed map[job.ID]int64) error {
	for id, epoch := range owed {
		if err := c.Fence.Learn(string(id), handoff.Grant{Epoch: epoch, Node: node, Addr: c.Config.Peers[node]}); err != nil {
			return err
		}
	}
	return c.Fence.Heard(node)
}

// owed are the restores here that declared asker dead, and of which it has not heard. While one of
// them may still fail there is no answer: neither that restore nor its absence may be told.
func (c *Copies) owed(asker string) (map[job.ID]int64, error) {
	owed := map[job.ID]int64{}
	for id, debts := range c.Fence.Debts() {
		for _, d := range debts {
			if _, owes := d.Nodes[asker]; !owes {
				continue
			}
			switch c.restoreOf(job.ID(id), d.Epoch) {
			case handoff.StateDropped:
			case handoff.StateDone, handoff.StateNew:
				owed[job.ID(id)] = max(owed[job.ID(id)], d.Epoch)
			default:
				return nil, &api.Error{Code: api.CodeFailed, Message: "job " + id + " is being brought back just now", Hint: "ask again; `migrate moves` tells how it gets on"}
			}
		}
	}
	return owed, nil
}

// AnswerNews tells a peer what this node has, or had, of jobs of the peer. A grant is no news: it
// does not say that the job has run.
func (c *Copies) AnswerNews(r *http.Request, asker string) (any, error) {
	var req peer.NewsRequest
	if err := httpjson.Decode(r, &req); err != nil {
		return nil, err
	}
	owed, err := c.owed(asker)
	if err != nil {
		return nil, err
	}
	news := peer.NewsReply{Superseded: map[job.ID]int64{}, Owed: owed, Fates: map[job.ID]peer.Fate{}}
	for id, epoch := range req.Runs {
		if rec, err := c.Jobs.Get(id); err == nil && handoff.Supersedes(rec.Epoch, epoch) && c.UnfinishedRole(id) == "" {
			news.Superseded[id] = rec.Epoch
		}
	}
	for _, id := range req.Left {
		rec, err := c.Jobs.Get(id)
		if errors.Is(err, job.ErrNotFound) && c.UnfinishedRole(id) == "" {
			news.Fates[id] = peer.Fate{State: api.JobExited} // forgotten, which only a job that is over can be
		}
		if err != nil {
			continue
		}
		v := c.View(r.Context(), rec)
		news.Fates[id] = peer.Fate{State: v.State, Exit: v.Exit, Moved: v.MovedTo, Epoch: v.Epoch}
	}
	return news, nil
}
