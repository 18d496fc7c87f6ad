package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/preflight"
)

// ChooseIDs gives a job that is started ids of its own, and holds them until letGo. They are
// picked by its name, which nearly always keeps the jobs of a whole cluster apart.
func (a *Node) ChooseIDs(rec *job.Record) error {
	a.IDs.mu.Lock()
	defer a.IDs.mu.Unlock()
	others, err := a.mapped(rec.ID)
	if err != nil {
		return err
	}
	h := fnv.New32a()
	h.Write([]byte(rec.ID))
	const ranges = (job.EndBase - job.FirstBase) / job.IDRange
	for i := range uint32(ranges) {
		rec.Spec.UIDBase = job.FirstBase + (h.Sum32()+i)%ranges*job.IDRange
		if sharing(rec.Spec, others) == "" && !holdsOwn(rec.Spec) {
			a.IDs.hold(string(rec.ID), *rec)
			return nil
		}
	}
	rec.Spec.UIDBase = 0
	return errors.New("every range of user ids is taken by a job: `migrate ps` lists them")
}

// holdsOwn tells whether one of the user's own ids, which stay what they are, lies in the range.
func holdsOwn(s job.Spec) bool {
	return slices.ContainsFunc(append([]uint32{s.UID, s.GID}, s.Groups...), func(id uint32) bool { return id >= s.UIDBase && id-s.UIDBase < job.IDRange })
}

// KeepIDs holds the ids of a job that arrives, until the move is finished, or says who has them.
func (a *Node) KeepIDs(m handoff.MoveID, rec job.Record) ([]preflight.Finding, error) {
	if !rec.Spec.UserNS {
		return nil, nil
	}
	a.IDs.mu.Lock()
	defer a.IDs.mu.Unlock()
	others, err := a.mapped(rec.ID)
	if err != nil {
		return nil, err
	}
	if other := sharing(rec.Spec, others); other != "" {
		return []preflight.Finding{preflight.IDsTaken(rec, other)}, nil
	}
	a.IDs.hold(string(m), rec)
	return nil, nil
}

func sharing(s job.Spec, others []job.Record) job.ID {
	for _, rec := range others {
		if s.SharesIDs(rec.Spec) {
			return rec.ID
		}
	}
	return ""
}

// mapped are the other jobs that have ids of the node's, or may have. A job goes from the first
// place to the last, so they are looked at in this order.
func (a *Node) mapped(but job.ID) (others []job.Record, err error) {
	for _, rec := range a.IDs.held {
		others = append(others, rec)
	}
	coming, err := a.Coming()
	if err != nil {
		return nil, err
	}
	here, err := a.Jobs.List()
	if err != nil {
		return nil, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("no job with --user-ns can start on or come to %s: one whose record is damaged may have any user ids: %v", a.Config.Node, err),
			Hint: "the operator puts the record right, or removes the job with `migrate rm -f`; `migrate ps -a` lists what is damaged"}
	}
	others = append(others, coming...)
	for _, rec := range here {
		if rec.Here() || leftBehind(rec) {
			others = append(others, rec)
		}
	}
	n := 0
	for _, rec := range others {
		if rec.ID != but && rec.Spec.UserNS {
			others[n] = rec
			n++
		}
	}
	return others[:n], nil
}

// leftBehind tells whether tasks of a job are in its cgroup yet, though its record says that it
// is elsewhere, which it does before the frozen copy is gone.
func leftBehind(rec job.Record) bool {
	pids, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).Pids()
	return err != nil || len(pids) > 0
}

// IncomingRecord is the record of a job that a move brings here.
func (a *Node) IncomingRecord(move string) (job.Record, error) {
	var rec job.Record
	data, err := os.ReadFile(a.Paths.IncomingRecord(move))
	if err != nil {
		return rec, err
	}
	return rec, json.Unmarshal(data, &rec)
}

// Coming are the jobs on their way here that have left a record, from earlier agents' moves too.
func (a *Node) Coming() (recs []job.Record, err error) {
	dir := filepath.Dir(a.Paths.Incoming("x"))
	moves, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, m := range moves {
		rec, err := a.IncomingRecord(m.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // not yet, or not any more
		}
		if err != nil {
			return nil, fmt.Errorf("a job that arrives may have any user ids: %s: %w", filepath.Join(dir, m.Name()), err)
		}
		recs = append(recs, rec)
	}
	return recs, nil
}
