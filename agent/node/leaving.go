package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/store"
)

// Saving is what the journal keeps of a checkpoint or restore, so that recovery knows it.
type Saving struct {
	Checkpoint   store.Ref
	LeaveRunning bool
	User         osthread.User // who asked for the checkpoint
}

// savingMembers are the agent's own. They lie in one object with those of the checkpoint's form.
type savingMembers struct {
	Name         string `json:"dir"`
	LeaveRunning bool   `json:"leave_running,omitempty"`
	osthread.User
}

// Extra is for the journal.
func (s Saving) Extra() (json.RawMessage, error) {
	own, err := json.Marshal(savingMembers{s.Checkpoint.Name, s.LeaveRunning, s.User})
	if err != nil || s.Checkpoint.Form == nil {
		return own, err
	}
	members := map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(s.Checkpoint.Form, &members), json.Unmarshal(own, &members)); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// SavingOf is what the record of a checkpoint or restore holds of the agent.
func SavingOf(rec handoff.Record) (Saving, error) {
	var own savingMembers
	if err := json.Unmarshal(rec.Extra, &own); err != nil {
		return Saving{}, fmt.Errorf("%s %s of job %s: %w", rec.Kind, rec.Move, rec.Job, err)
	}
	return Saving{store.Ref{Name: own.Name, Form: rec.Extra}, own.LeaveRunning, own.User}, nil
}

// Origin is where a copy came from: from another node by a move, from a checkpoint by a restore.
type Origin struct {
	Kind  handoff.Kind
	To    *job.Moved // the node, to which the job goes back
	Saved string     // the checkpoint, by its name
}

// Leaving are the moves that this agent works on as their source.
type Leaving struct {
	node  string
	mu    sync.Mutex
	moves map[job.ID]handoff.MoveID // a job moves once at a time
}

// Claim makes sure that a job leaves by one way at a time.
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

// IsLeaving tells whether a job leaves.
func (l *Leaving) IsLeaving(id job.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.moves[id]
	return ok
}

// IsActive tells whether a move of a job is worked on for its user just now.
func (l *Leaving) IsActive(id job.ID, m handoff.MoveID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	active, ok := l.moves[id]
	return ok && active == m
}
