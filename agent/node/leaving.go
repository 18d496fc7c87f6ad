package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/store"
)

// Saving is what the journal keeps of a checkpoint or restore for its recovery.
type Saving struct {
	Checkpoint   store.Ref
	LeaveRunning bool
	User         osthread.User // of the caller
}

// savingMembers are the agent's own members of the JSON object. The checkpoint's form adds others.
type savingMembers struct {
	Name         string `json:"dir"`
	LeaveRunning bool   `json:"leave_running,omitempty"`
	osthread.User
}

// Extra is the JSON of handoff.Record.Extra.
func (s Saving) Extra() (json.RawMessage, error) {
	own, err := exactjson.Marshal(savingMembers{s.Checkpoint.Name, s.LeaveRunning, s.User})
	if err != nil || s.Checkpoint.Form == nil {
		return own, err
	}
	members := map[string]json.RawMessage{}
	if err := errors.Join(exactjson.Unmarshal(s.Checkpoint.Form, &members), exactjson.Unmarshal(own, &members)); err != nil {
		return nil, err
	}
	return exactjson.Marshal(members)
}

// SavingOf decodes the Saving in the record of a checkpoint or restore.
func SavingOf(rec handoff.Record) (Saving, error) {
	var own savingMembers
	if err := exactjson.Unmarshal(rec.Extra, &own); err != nil {
		return Saving{}, fmt.Errorf("%s %s of job %s: %w", rec.Kind, rec.Move, rec.Job, err)
	}
	return Saving{store.Ref{Name: own.Name, Form: rec.Extra}, own.LeaveRunning, own.User}, nil
}

// Origin is where a copy came from: another node by a move, a checkpoint by a restore.
type Origin struct {
	Kind  handoff.Kind
	To    *job.Moved // the other node; the job goes back there
	Saved string     // the checkpoint, by its name
}

// Leaving are the moves, and checkpoints, that this agent works on as their source.
type Leaving struct {
	node  string
	mu    sync.Mutex
	moves map[job.ID]handoff.MoveID // a job moves once at a time
}

// Claim begins a move of a job. It fails while another one is claimed; release ends the claim.
func (l *Leaving) Claim(id job.ID, m handoff.MoveID) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, ok := l.moves[id]; ok {
		return nil, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is being moved already, by %s", id, other), Where: "on " + l.node, Hint: "wait for its end: `migrate moves` tells how it gets on"}
	}
	l.moves[id] = m
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.moves, id)
	}), nil
}

// IsLeaving tells whether a move of the job is claimed.
func (l *Leaving) IsLeaving(id job.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.moves[id]
	return ok
}

// IsActive tells whether this move of the job is the claimed one.
func (l *Leaving) IsActive(id job.ID, m handoff.MoveID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	active, ok := l.moves[id]
	return ok && active == m
}
