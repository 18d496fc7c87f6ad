package node

import (
	"encoding/json"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// SavingExtra is what the journal keeps of a checkpoint or restore, so that recovery knows it.
type SavingExtra struct {
	Dir          string   `json:"dir"`
	LeaveRunning bool     `json:"leave_running,omitempty"`
	UID          uint32   `json:"uid"` // who asked for it
	GID          uint32   `json:"gid"`
	Groups       []uint32 `json:"groups,omitempty"`
	Inode                 // of the directory
}

// ExtraOf is what the record of a checkpoint or restore holds of the agent.
func ExtraOf(rec handoff.Record) (x SavingExtra, err error) {
	if err := json.Unmarshal(rec.Extra, &x); err != nil {
		return x, fmt.Errorf("%s %s of job %s: %w", rec.Kind, rec.Move, rec.Job, err)
	}
	return x, nil
}

// Inode tells one directory from all others for as long as that is there.
type Inode struct {
	Dev uint64 `json:"dev,omitempty"`
	Ino uint64 `json:"ino,omitempty"`
}

func InodeOf(st unix.Stat_t) Inode { return Inode{st.Dev, st.Ino} }

// ActiveMove is a move that this agent works on as its source.
type ActiveMove struct{ ID handoff.MoveID }

// Claim makes sure that a job leaves by one way at a time.
func (a *Node) Claim(id job.ID, m handoff.MoveID) (release func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if other, ok := a.moves[id]; ok {
		return nil, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s is being moved already, by %s", id, other.ID), Where: "on " + a.Config.Node, Hint: "wait for its end: `migrate moves` tells how it gets on"}
	}
	a.moves[id] = &ActiveMove{m}
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.moves, id)
	}), nil
}

func (a *Node) Moving(id job.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.moves[id]
	return ok
}

// Origin is where a copy came from: from another node by a move, from a directory by a restore.
type Origin struct {
	Kind  handoff.Kind
	To    *job.Moved // the node, to which the job goes back
	Saved string     // the directory
}

// Under tells whether this agent works on a move for its user just now.
func (a *Node) Under(id job.ID, m handoff.MoveID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	active, ok := a.moves[id]
	return ok && active.ID == m
}
