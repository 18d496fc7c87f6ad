package copies

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/logkey"
)

// AnswerInquiry tells a peer what this node knows of a job.
func (c *Copies) AnswerInquiry(r *http.Request, _ string) (any, error) {
	id, err := idIn(r)
	if err != nil {
		return nil, err
	}
	c.CatchUp(r.Context())
	return c.Inquire(r.Context(), id)
}

// AnswerGrant lets a peer restore a job, if it does not live here. The grant is on the disk before
// the answer goes out.
func (c *Copies) AnswerGrant(r *http.Request, asker string) (any, error) {
	var req peer.GrantRequest
	id, err := idIn(r)
	if err == nil {
		err = httpjson.Decode(r, &req)
	}
	if err != nil {
		return nil, err
	}
	c.GrantLock.Lock()
	defer c.GrantLock.Unlock()
	s, err := c.Inquire(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if s.Alive != "" || req.Epoch < s.Epoch {
		return nil, &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("job %s: %s", id, cmp.Or(s.Alive, "a later epoch of it is known")), Where: "on " + c.Config.Node}
	}
	g := handoff.Grant{Epoch: req.Epoch, Node: asker, Addr: peer.CallerAddr(r, req.Port)}
	if err := c.Fence.Grant(string(id), req.Seen, g); errors.Is(err, handoff.ErrStaleEpoch) {
		return nil, &api.Error{Code: api.CodeRefused, Message: err.Error(), Hint: "the same command again"}
	} else if err != nil {
		return nil, err
	}
	c.Log.Info("a job may be brought back elsewhere", logkey.Job, id, logkey.Peer, asker, logkey.Epoch, req.Epoch)
	return struct{}{}, nil
}
