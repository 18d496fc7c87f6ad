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

// Origin is where a copy came from: from another node by a move, from a directory by a restore.
type Origin struct {
	Kind  handoff.Kind
	To    *job.Moved // the node, to which the job goes back
	Saved string     // the directory
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

// Moving tells whether a job leaves.
func (l *Leaving) Moving(id job.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.moves[id]
	return ok
}

// Under tells whether a move of a job is worked on for its user just now.
func (l *Leaving) Under(id job.ID, m handoff.MoveID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	active, ok := l.moves[id]
	return ok && active == m
}
