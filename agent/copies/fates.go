package copies

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
)

// Fate is what became of a job that left this node, as the node At has told.
type Fate struct {
	peer.Fate
	At job.Moved
}

// Forgotten tells whether the node that had the job has no record of it any more.
func (f Fate) Forgotten() bool { return f.State == api.JobExited && f.Exit == nil }

// Fates asks the nodes to which jobs went from here, and those to which they went on, for the jobs'
// states, at most for within. It writes down which have ended, and forgets those forgotten there. A
// job that rests in a checkpoint has a fate once another node has restored it.
func (c *Copies) Fates(ctx context.Context, recs []job.Record, within time.Duration) map[job.ID]Fate {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	known := map[job.ID]Fate{}
	next := map[job.ID]job.Moved{}
	saved := map[job.ID]int64{} // to the epoch of the restore
	for _, rec := range recs {
		switch g, granted := c.Fence.Granted(string(rec.ID)); {
		case rec.Exit != nil:
		case rec.MovedTo != nil:
			next[rec.ID] = *rec.MovedTo
		case rec.SavedIn != "" && granted && g.Epoch > rec.Epoch:
			next[rec.ID], saved[rec.ID] = job.Moved{Node: g.Node, Addr: g.Addr, Epoch: g.Epoch}, g.Epoch
		}
	}
	for range caller.MaxHops {
		next = c.fatesAt(ctx, next, known)
	}
	for id, f := range known {
		epoch, rests := saved[id]
		switch {
		case rests && (f.Epoch < epoch || f.State == api.JobMoved || f.Forgotten()):
			delete(known, id) // it was not restored there, or that is not known
		case rests:
		case f.Forgotten():
			c.forget(id)
		case f.State == api.JobExited:
			c.writeFate(id, *f.Exit)
		}
	}
	return known
}

// fatesAt asks each node once, adds to known, and returns the jobs that went on, with their nodes.
func (c *Copies) fatesAt(ctx context.Context, at map[job.ID]job.Moved, known map[job.ID]Fate) map[job.ID]job.Moved {
	byNode := map[handoff.Place][]job.ID{}
	for id, m := range at {
		p := handoff.Place{Node: m.Node, Addr: m.Addr}
		byNode[p] = append(byNode[p], id)
	}
	next := map[job.ID]job.Moved{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for p, ids := range byNode {
		if p.Node == c.Config.Node {
			continue // the job has come back meanwhile
		}
		all.Go(func() {
			var news peer.NewsReply
			if c.Peers.Question(ctx, p.Node, []string{p.Addr}, peer.PeerPath, peer.NewsRequest{Left: ids}, &news) != nil {
				return // nothing is known, and it stays with where the job went
			}
			mu.Lock()
			defer mu.Unlock()
			for id, f := range news.Fates {
				if !slices.Contains(ids, id) {
					continue
				}
				if known[id] = (Fate{f, at[id]}); f.State == api.JobMoved && f.Moved != nil {
					next[id] = *f.Moved
				}
			}
		})
	}
	all.Wait()
	return next
}

// writeFate records the exit of a job that had left this node.
func (c *Copies) writeFate(id job.ID, exit job.Exit) {
	_, err := c.Jobs.Update(id, func(r *job.Record) error {
		if r.MovedTo != nil && r.Exit == nil {
			r.Exit = &exit
		}
		return nil
	})
	if err != nil && !errors.Is(err, job.ErrNotFound) {
		c.Log.Warn("how a job ended that has left is not written down", logkey.Job, id, logkey.Err, err)
	}
}

// forget removes the record of a job that has left, and that the node which had it has forgotten.
func (c *Copies) forget(id job.ID) {
	err := c.Jobs.RemoveIf(id, func(r job.Record) bool { return r.MovedTo != nil && c.UnfinishedRole(id) == "" })
	if err != nil && !errors.Is(err, job.ErrNotFound) {
		c.Log.Warn("a job that was forgotten where it went is not forgotten here", logkey.Job, id, logkey.Err, err)
	}
}

// Over tells whether a job in this state runs nowhere, and will not run by itself.
func Over(s api.JobState) bool { return s == api.JobExited || s == api.JobSaved || s == api.JobLost }
